mkfifo orders
faultkit serve ok --http --port 8084 --control orders > served.txt &
exec 3> orders
until grep -q listening served.txt; do :; done
curl -sS http://127.0.0.1:8084/
echo 'arm linger' >&3
until grep -q 'arm linger: done' served.txt; do :; done
curl -sS http://127.0.0.1:8084/ 2>&1 || echo quit >&3
wait
