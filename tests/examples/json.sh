faultkit linger --json | python3 -c '
import json, sys
run = json.load(sys.stdin)
print(run["verdict"]["produced"], run["evidence"]["counters"]["TcpExtTCPAbortOnData"])'
