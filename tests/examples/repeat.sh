for cause in linger unread closed-port; do
    faultkit "$cause" --repeat 100 --quiet || exit
done
