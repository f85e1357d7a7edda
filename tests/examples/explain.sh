faultkit keepalive-race --fin in-flight --pcap race.pcap --svg race.svg --html race.html --quiet
faultkit explain race.pcap
