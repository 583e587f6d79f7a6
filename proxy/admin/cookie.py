"""What is the dashboard's cookie called? By its port: cookies are of a host, on which several sidecars may be seen."""


def cookie_name(host: str) -> str:
    """`host`: as the browser asked for it."""
    port = host.rpartition(":")[2]
    return f"sidecache-{port if port.isascii() and port.isdigit() and len(port) <= 5 else 'session'}"
