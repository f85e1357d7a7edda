faultkit keepalive-timeout --on host
