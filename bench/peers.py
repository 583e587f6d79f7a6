"""How do the peers' users set them up for the same job? nginx, Varnish, HAProxy, aiohttp by itself, and bare C.

Everybody caches /api/jobs/, with the credentials in the key where the product can do that, and forwards the rest over
kept connections. No access logs, as with the sidecar.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cpu import Tree
from bench.machine import Cores, beside_python, compiled, need
from bench.processes import clean_environment, free_port, running


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is started: the cores, a folder of its own and, for proxies, the port of the origin."""

    cores: Cores
    folder: Path
    origin: int

    def below(self, name: str) -> "Place":
        folder = self.folder / f"{name}-{free_port()}"
        folder.mkdir()
        return Place(self.cores, folder, self.origin)


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs."""

    name: str
    port: int
    processes: Tree
    fills_itself: bool = False  # with all keys up to the last one, when it is asked for that one (`bench.filled`)


Started = AbstractContextManager[Server]


@contextmanager
def started(
    name: str, command: list[str], port: int, place: Place, environ: dict[str, str] | None = None
) -> Iterator[Server]:
    log = place.folder / f"{name}.log"
    with running(command, port, place.cores.server, log=log, environ=environ or clean_environment()) as pid:
        yield Server(name, port, Tree(pid))


@contextmanager
def origin(cores: Cores, folder: Path) -> Iterator[int]:
    """The port of the origin, which shares the load generator's core."""
    port = free_port()
    with running([str(compiled("origin", folder)), str(port)], port, cores.load, log=folder / "origin.log"):
        yield port


def floor(place: Place, size: int = 2048) -> Started:
    port = free_port()
    return started("C floor", [str(compiled("floor", place.folder)), str(port), str(size)], port, place)


def aiohttp_plain(place: Place) -> Started:
    port = free_port()
    return started("aiohttp", [beside_python("python"), "-m", "bench.plain", str(port)], port, place)


_NGINX = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
{modules}
events {{ worker_connections 8192; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=jobs:256m max_size=8g inactive=1h use_temp_path=off;
  upstream portal {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 1000000000; }}
  {http}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    location / {{ proxy_pass http://portal; }}
    {server}
  }}
}}
"""

_NGINX_CACHE = """
    location /api/jobs/ {
      proxy_pass http://portal;
      proxy_cache jobs;
      proxy_cache_key "$request_method|$host|$request_uri|$http_authorization";
      proxy_cache_valid 200 15m;
      proxy_cache_lock on;
      add_header X-Cache-Status $upstream_cache_status;
    }
"""


def nginx(place: Place, locations: int = 0) -> Started:
    """proxy_cache, with the credentials in the key; among so many other locations."""
    need("nginx")
    others = "".join(
        f"    location /api/things-{number}/ {{ proxy_pass http://portal; proxy_cache jobs; }}\n"
        for number in range(locations)
    )
    return _nginx("nginx", place, server=_NGINX_CACHE + others)


# One value holds content type and body. What is not there is fetched from the origin and kept, as one would write it.
_LUA = """
    location /origin/ { internal; proxy_pass http://portal/; }
    location /api/jobs/ {
      default_type application/json;
      content_by_lua_block {
        local redis = require "nginx.redis"
        local red = redis:new()
        red:set_timeouts(1000, 1000, 1000)
        local ok, err = red:connect("127.0.0.1", %d)
        if not ok then return ngx.exit(502) end
        local key = ngx.md5(ngx.var.http_authorization .. "|" .. ngx.var.request_uri)
        local value = red:get(key)
        if value == ngx.null or not value then
          local found = ngx.location.capture("/origin" .. ngx.var.request_uri)
          value = found.body
          if found.status == 200 then red:setex(key, 900, value) end
        end
        red:set_keepalive(60000, 64)
        ngx.header["Content-Length"] = #value
        ngx.print(value)
      }
    }
"""


def nginx_lua_redis(place: Place, redis: int) -> Started:
    """nginx that keeps what it caches in Redis, by its Lua module and the Redis client for it."""
    need("nginx", "libnginx-mod-http-lua", "lua-nginx-redis")
    modules = "".join(
        f"load_module /usr/lib/nginx/modules/{name}.so;\n" for name in ("ndk_http_module", "ngx_http_lua_module")
    )
    http = 'lua_package_path "/usr/share/lua/5.1/?.lua;;";'
    return _nginx("nginx+Lua+Redis", place, modules=modules, http=http, server=_LUA % redis)


def _nginx(name: str, place: Place, *, modules: str = "", http: str = "", server: str) -> Started:
    port = free_port()
    file = place.folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(
        _NGINX.format(
            user=user, folder=place.folder, modules=modules, http=http, server=server, origin=place.origin, port=port
        )
    )
    return started(name, ["nginx", "-p", str(place.folder), "-e", "stderr", "-c", str(file)], port, place)


_VCL = """\
vcl 4.1;
backend portal { .host = "127.0.0.1"; .port = "%d"; }
sub vcl_recv {
  # the built-in rules pass everything with credentials: the key below has them instead
  if (req.method == "GET" && req.url ~ "^/api/jobs/") { unset req.http.Cookie; return (hash); }
  return (pass);
}
sub vcl_hash { hash_data(req.http.Authorization); }
"""


def varnish(place: Place) -> Started:
    """The built-in VCL, but with the credentials in the key."""
    need("varnish")
    port = free_port()
    file = place.folder / "default.vcl"
    file.write_text(_VCL % place.origin)
    # the log of shared memory is meant to lie in memory
    command = ["varnishd", "-F", "-n", str(place.folder / "work"), "-a", f"127.0.0.1:{port}", "-f", str(file)]
    return started("Varnish", [*command, "-T", "none", "-j", "none", "-s", "malloc,4G"], port, place)


_HAPROXY = """\
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
cache jobs
  total-max-size 1024
  max-object-size 300000
  max-age 900
frontend data
  bind 127.0.0.1:%d
  use_backend cached if { path_beg /api/jobs/ }
  default_backend portal
backend cached
  http-request set-var(txn.credentials) req.hdr(authorization)
  http-request del-header authorization
  http-request cache-use jobs
  http-request set-header authorization %%[var(txn.credentials)] if { var(txn.credentials) -m found }
  http-response cache-store jobs
  server origin 127.0.0.1:%d pool-max-conn 64
backend portal
  server origin 127.0.0.1:%d pool-max-conn 64
"""


def haproxy(place: Place) -> Started:
    """Its small cache. It serves nothing to requests with credentials, so they are set aside for the lookup; the key is
    host and target alone, so it does not tell one tenant from another.
    """
    need("haproxy")
    port = free_port()
    file = place.folder / "haproxy.cfg"
    file.write_text(_HAPROXY % (port, place.origin, place.origin))
    return started("HAProxy", ["haproxy", "-db", "-f", str(file)], port, place)


@contextmanager
def redis_server(cores: Cores, folder: Path) -> Iterator[int]:
    """The port of a Redis without persistence, on the load generator's core: the proxies are what is compared."""
    need("redis-server")
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with running(command, port, cores.load, log=folder / "redis.log"):
        yield port


@contextmanager
def workshop(cores: Cores) -> Iterator[Place]:
    """A folder in memory where there is one (as the peers' manuals advise for caches), and an origin that runs."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="sidecache-bench-", dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        folder.chmod(0o755)
        with origin(cores, folder) as port:
            yield Place(cores, folder, port)
