"""`python -m proxy` is `sidecache`."""

from proxy.cli.main import main

main()
