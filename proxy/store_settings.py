"""Which store is meant, and how is it reached? The variables of Redis and of Upstash (SPEC 3)."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from proxy.addresses import HOST, Address, is_bracketed, is_url, quoted
from proxy.profiles import Concern, judge
from proxy.variables import Variables, meant

_ORDER = ("upstash", "elasticache")
_PRESENT = (("upstash", "UPSTASH_REDIS_REST_URL"), ("elasticache", "REDIS_HOST"))
_PROVIDERS = {"memory": "memory", "elasticache": "elasticache", "redis": "elasticache", "upstash": "upstash"}


def provider(variables: Variables, profile: str) -> str:
    value, source = variables.raw("REDIS_PROVIDER")
    # the variables that are present say it too; of both, Upstash is the one for development
    present = {
        each: name for each, name in _PRESENT if variables.environ.get(name) or variables.environ.get(f"{name}_FILE")
    }
    chosen = (min if profile == "development" else max)(present, default="", key=_ORDER.index)
    if not value and variables.unsaid("REDIS_PROVIDER"):
        if not present:
            line = "REDIS_PROVIDER: missing; say memory if everything is to be kept in this process alone"
            judge(variables, profile, Concern.GUESSED_STORE, line)
        elif len(present) > 1:
            line = f"REDIS_PROVIDER: missing, and {' and '.join(present.values())} are both there: say which store"
            judge(variables, profile, Concern.TWO_STORES, f"{line}; {profile} would take {chosen}")
    value = value or chosen or "memory"
    provider = _PROVIDERS.get(value.lower())
    if provider is None:
        names = tuple(_PROVIDERS)
        variables.problems.append(f"{source}: {quoted(value)} is not one of {', '.join(names)}{meant(value, names)}")
        return "memory"
    for each, name in present.items():
        if each != provider:
            variables.warnings.append(f"{name}: has no effect with REDIS_PROVIDER={provider}")
    if provider != "elasticache" and variables.environ.get("REDIS_PORT", "").startswith("tcp://"):
        variables.warnings.append("REDIS_PORT: ignored; Kubernetes put it there for a service named redis")
    return provider


def redis(variables: Variables, profile: str) -> dict[str, Any]:
    """What a store over TCP needs (`REDIS_PROVIDER=elasticache`)."""
    tls, ca = variables.switch("REDIS_TLS"), variables.text("REDIS_TLS_CA")
    username, iam = variables.text("REDIS_USERNAME"), variables.text("REDIS_IAM_AUTH")
    password = variables.text("REDIS_PASSWORD")
    address = _redis_address(variables)
    if not tls and (profile == "production" or not address.loopback):
        line = f"{variables.source('REDIS_TLS')}: off: entries and passwords would cross the network in plain text"
        judge(variables, profile, Concern.PLAIN_REDIS, f"{line}; set REDIS_TLS=true")
    if ca is not None and not tls:
        variables.warnings.append("REDIS_TLS_CA: has no effect without REDIS_TLS=true")
    elif ca is not None:
        _check_authority(variables, ca)
    if iam is not None:
        if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-[0-9]/[a-z][a-z0-9-]{0,49}(/serverless)?", iam):
            variables.problems.append(
                f"REDIS_IAM_AUTH: {quoted(iam)} is not REGION/CACHE such as eu-central-1/portal-cache "
                "(a serverless cache: REGION/CACHE/serverless)"
            )
        if username is None or not tls or password is not None:
            variables.problems.append("REDIS_IAM_AUTH: needs REDIS_USERNAME and REDIS_TLS=true, and no REDIS_PASSWORD")
    return {
        "redis": address, "redis_username": username, "redis_password": password, "redis_tls": tls,
        "redis_tls_ca": Path(ca) if ca else None, "redis_iam_auth": iam,
        "redis_cluster": variables.choice("REDIS_CLUSTER", ("auto", "true", "false"), "auto"),
    }  # fmt: skip


def _check_authority(variables: Variables, file: str) -> None:
    """Whether it is a file of certificates: at the start, not with the first connection."""
    source = variables.source("REDIS_TLS_CA")
    if not Path(file).is_file():
        variables.problems.append(f"{source}: there is no file {quoted(file)}")
        return
    import ssl  # here: a probe that runs every few seconds needs none of it

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        variables.problems.append(f"{source}: {quoted(file)} is no file of certificates in PEM")
    except OSError as error:
        variables.problems.append(f"{source}: cannot read {quoted(file)}: {(error.strerror or '').lower()}")


def _redis_address(variables: Variables) -> Address:
    (host, source), (port, _) = variables.raw("REDIS_HOST"), variables.raw("REDIS_PORT")
    if port is not None and (kubernetes := re.fullmatch(r"tcp://([^:/]+):([0-9]{1,5})", port)):
        host, port = host or kubernetes[1], kubernetes[2]
        variables.warnings.append(
            f"REDIS_PORT: Kubernetes put it there for a service named redis; {host} port {port} is used"
        )
    if host is None:
        variables.missing("REDIS_HOST", "say where Redis is, e.g. REDIS_HOST=cache.internal")
    elif not (HOST.fullmatch(host) or is_bracketed(f"[{host}]")):
        variables.problems.append(f"{source}: {quoted(host)} is not a host name or an address such as cache.internal")
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
        variables.problems.append(f"{variables.source('REDIS_PORT')}: {quoted(port)} is not a port such as 6379")
        port = None
    return Address(host or "127.0.0.1", int(port or 6379))


def upstash(variables: Variables) -> dict[str, Any]:
    """What a store over REST needs (`REDIS_PROVIDER=upstash`)."""
    url, source = variables.raw("UPSTASH_REDIS_REST_URL")
    if url is None:
        variables.missing("UPSTASH_REDIS_REST_URL", "the console of the database shows it")
    elif not is_url(url) or urlsplit(url).username is not None:
        variables.problems.append(f"{source}: {quoted(url)} is not a URL such as https://name-12345.upstash.io")
    elif not url.startswith("https://") and not Address(urlsplit(url).hostname or "", 0).loopback:
        variables.problems.append(f"{source}: {quoted(url)} would send the token in plain text; use https")
    token = variables.text("UPSTASH_REDIS_REST_TOKEN")
    if token is None:
        variables.missing("UPSTASH_REDIS_REST_TOKEN", "the console of the database shows it")
    elif not re.fullmatch(r"[!-~]+", token):
        variables.problems.append(f"{variables.source('UPSTASH_REDIS_REST_TOKEN')}: a token has no blanks in it")
    return {"upstash_url": url.rstrip("/") if url else None, "upstash_token": token}
