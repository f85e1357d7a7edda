faultkit recipe idle-firewall --port 5432 --as nft
