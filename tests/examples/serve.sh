faultkit serve linger --port 8083 --connections 1 > served.txt &
until grep -q listening served.txt; do :; done
curl -sS http://127.0.0.1:8083/ 2>&1 || wait
cat served.txt
