import urllib3

from faultkit import FaultServer


def test_a_client_that_backs_off(fault_server: FaultServer) -> None:
    server = fault_server(plan=["refuse", "refuse", "ok"], answer="http")
    with urllib3.PoolManager(retries=urllib3.Retry(connect=3, backoff_factor=0.1)) as pool:
        assert pool.request("GET", server.url).status == 200
    assert [attempt.met for attempt in server.attempts] == ["refused", "refused", "connected"]
    assert server.attempts[2].pause_seconds > 0.19  # the first time it tries again at once, then after 0.1 s * 2
