faultkit unread --packets --pcap unread.pcap
tshark -r unread.pcap -Y tcp.flags.reset==1
