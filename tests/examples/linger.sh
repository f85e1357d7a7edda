faultkit linger
