# Before an instance is stopped: sh drain.sh PORT. What nginx has asked it already, nginx's old worker waits for.
sed -i "s/127.0.0.1:$1 /&down /" nginx.conf
kill -s HUP "$(cat nginx.pid)"
