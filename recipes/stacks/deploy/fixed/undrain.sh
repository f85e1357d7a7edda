# After an instance was started: sh undrain.sh PORT
sed -i "s/127.0.0.1:$1 down /127.0.0.1:$1 /" nginx.conf
kill -s HUP "$(cat nginx.pid)"
