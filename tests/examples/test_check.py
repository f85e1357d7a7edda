from faultkit import check_cause


def test_this_kernel_resets_on_unread_data() -> None:
    report = check_cause("unread", times=20)  # raises NotProduced: expected and seen, run by run
    assert report.produced == 20


def test_keepalive_expires_when_it_should() -> None:
    check_cause("keepalive-timeout", times=1, keepalive_seconds=1, interval_seconds=1, count=1)
