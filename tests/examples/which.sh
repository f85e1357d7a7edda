faultkit which --message "recv() failed (104: Connection reset by peer) while reading response header from upstream"
