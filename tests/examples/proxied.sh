faultkit serve ok --http --port 8085 > service.txt &
until grep -q listening service.txt; do :; done
faultkit proxy 8084 localhost:8085 --fault linger --after-sent 50 --connections 1 > proxied.txt &
until grep -q listening proxied.txt; do :; done
curl -sS http://127.0.0.1:8084/ 2>&1 || wait %2
cat proxied.txt
kill %1
