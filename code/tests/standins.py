"""Stand-ins for the services, real servers on loopback that speak the real protocols.

DocDB's gateway is HTTPS in front of mgqpy, with the gateway's limits; the results store is one
of its collections. Code Ocean is HTTPS, too, and answers with what a test tells it. S3 is moto's
server, with what moto lets pass refused in front of it: unsigned requests to private buckets,
unknown keys, signatures for the wrong region.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import trustme
from botocore.utils import parse_to_aware_datetime
from mgqpy import Query
from moto.core import serialize
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server

REQUEST_LINE = 8_192
REQUEST = 10_000_000
ANSWER = 6_000_000
ACCOUNT = "123456789012"
BUCKET = "example-bucket"
KEY_ID = "AKIDEXAMPLE"
SECRET = "example-secret"  # noqa: S105
TOKEN = "example/code=ocean+token"  # noqa: S105
RESULTS = "v1/analysis/results"

ERROR = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{}</Code><Message>{}</Message></Error>"""


def record(name: str, bucket: str = BUCKET, **more: Any) -> dict[str, Any]:
    """Return a small record of a data asset."""
    return {
        "_id": f"id-{name}",
        "name": name,
        "location": f"s3://{bucket}/{name}",
        "external_links": {"Code Ocean": [f"co-{name}"]},
        **more,
    }


# A status, headers and a body to answer with, or a function that does what it likes.
Fault = tuple[int, dict[str, str], bytes] | Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Request:
    """A request that a stand-in got."""

    method: str
    path: str
    query: dict[str, str]
    body: Any = None
    signature: str = ""
    token: str = ""  # of the session, or of the user
    time: float = field(default_factory=time.monotonic)


def has_gone(connection: socket.socket) -> bool:
    """Return whether whoever asked is there no more, such as a run that a signal has ended.

    Under a load, its request is looked at when the next test has begun, which it is not one of.
    """
    try:  # below TLS, if it is over that
        return not socket.socket.recv(connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


class Service:
    """A service that answers over HTTPS with JSON, or does what a test tells it instead."""

    def __init__(self, certificate: trustme.LeafCert) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        self.requests: list[Request] = []
        self.faults: deque[Fault | None] = deque()  # what to do first, instead of answering
        self.always: Fault | None = None  # what to do each time
        self.after: Callable[[], None] | None = None  # done behind each answer
        # given each request and its answer, returns another one, if any
        self.spoil: Callable[[Request, bytes], tuple[int, dict[str, str], bytes] | None] | None
        self.max_request = self.max_answer = ANSWER
        self.connections = 0  # that were opened
        self.clear()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else 40 ms are waited before each body

            def setup(self) -> None:
                service.connections += 1
                super().setup()

            def do_GET(self) -> None:
                service.answer(self, None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.answer(self, json.loads(body))

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.host = f"localhost:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def clear(self) -> None:
        """Forget all requests and faults."""
        self.requests.clear()
        self.connections = 0
        self.faults.clear()
        self.always = self.after = self.spoil = None
        self.max_request = REQUEST
        self.max_answer = ANSWER

    def answer(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        """Answer one request."""
        if has_gone(handler.connection):
            handler.close_connection = True
            return
        url = urlsplit(handler.path)
        query = dict(parse_qsl(url.query))
        request = Request(handler.command, url.path, query, body)
        request.token = handler.headers.get("Authorization", "")
        self.requests.append(request)
        status: int
        headers: dict[str, str]
        if len(handler.requestline) > REQUEST_LINE:
            status, headers, content = 414, {}, b'{"message": "URI too long"}'
        elif int(handler.headers.get("Content-Length", "0")) > self.max_request:
            status, headers, content = 413, {}, b'{"message": "Request Too Long"}'
        elif fault := self.faults.popleft() if self.faults else self.always:
            if callable(fault):
                fault(handler)
                return
            status, headers, content = fault
        else:
            headers = {}
            status, content = self.run(request)
            if status == 401:
                headers["WWW-Authenticate"] = 'Basic realm="here"'
            if len(content) > self.max_answer:
                status, content = 413, b'{"message": "Request Too Long"}'
            if spoilt := self.spoil and self.spoil(request, content):
                status, headers, content = spoilt
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)
        if self.after:
            self.after()

    def run(self, request: Request) -> tuple[int, bytes]:
        """Return the status and the body of an answer."""
        raise NotImplementedError


class DocDB(Service):
    """The gateway of the metadata database, with its own certificate authority."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca_file = folder / "docdb-ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self.certificate = authority.issue_cert("localhost")
        self.records: dict[str, list[dict[str, Any]]] = {}
        super().__init__(self.certificate)

    def clear(self) -> None:
        """Forget all records, too."""
        super().clear()
        self.records = {"v1": [], "v2": [], RESULTS: []}

    def put(self, *records: dict[str, Any], version: str = "v1") -> None:
        """Add records."""
        self.records[version].extend(records)

    def run(self, request: Request) -> tuple[int, bytes]:
        """Return what the collection that is asked answers."""
        path = request.path.replace("/metadata_index/data_assets/", "/")
        route = re.fullmatch(r"/(.*)/(find|aggregate|count_documents|insert_one)", path)
        if not route or route[1] not in self.records:
            return 404, b'{"message": "no such route"}'
        try:
            records = list(self.records[route[1]])
            if route[2] == "insert_one":
                self.records[route[1]].append(request.body)
                return 200, b"{}"
            if route[2] == "aggregate":
                return 200, json.dumps(aggregate(records, request.body)).encode()
            asked = json.loads(request.query.get("filter", "{}"))
            found = list(filter(Query(asked).test, records))
            if route[2] == "count_documents":
                counts = {"total_record_count": len(records), "filtered_record_count": len(found)}
                return 200, json.dumps(counts).encode()
            start = int(request.query.get("skip", "0"))
            end = start + (int(request.query.get("limit", "0")) or len(found))
            return 200, json.dumps(found[start:end]).encode()
        except Exception as error:
            return 400, json.dumps({"message": f"{type(error).__name__}: {error}"}).encode()


class CodeOcean(Service):
    """Code Ocean's API: it knows the computations, capsules and data assets that it is given."""

    def __init__(self, certificate: trustme.LeafCert) -> None:
        self.known: dict[str, Any] = {}
        super().__init__(certificate)

    def clear(self) -> None:
        """Forget all that is known, too."""
        super().clear()
        self.known.clear()

    def put(self, kind: str, **fields: Any) -> None:
        """Add a computation, capsule or data asset."""
        self.known[f"/api/v1/{kind}/{fields['id']}"] = fields

    def run(self, request: Request) -> tuple[int, bytes]:
        """Return what is known of a path, to the user with the token."""
        if request.token != f"Basic {b64encode(f'{TOKEN}:'.encode()).decode()}":
            return 401, b'{"message": "Unauthorized"}'
        if request.path not in self.known:
            return 404, b'{"message": "Not found"}'
        return 200, json.dumps(self.known[request.path]).encode()


def aggregate(records: list[dict[str, Any]], pipeline: list[dict[str, Any]]) -> list[Any]:
    """Return what a pipeline makes of records, with the stages that the program uses."""
    kinds = (int, str, dict)  # the order in which MongoDB sorts them
    for stage in pipeline:
        [(name, value)] = stage.items()
        if name == "$match":
            records = list(filter(Query(value).test, records))
        elif name == "$project" and any(isinstance(field, str) for field in value.values()):
            records = [computed(r, value) for r in records]
        elif name == "$unwind":
            records = [one for r in records for one in unwound(r, value.removeprefix("$"))]
        elif name == "$group" and value["records"] == {"$sum": 1}:
            times = Counter(json.dumps(r[value["_id"].removeprefix("$")]) for r in records)
            records = [{"_id": json.loads(one), "records": n} for one, n in times.items()]
        elif name == "$sort" and value == {"records": -1, "_id": 1}:
            records.sort(key=lambda r: (-r["records"], json.dumps(r["_id"])))
        elif name == "$sort" and value == {"_id": 1}:
            records.sort(key=lambda r: (kinds.index(type(r["_id"])), r["_id"]))
        elif name == "$limit":
            records = records[:value]
        elif name == "$project":
            wanted = [field for field, kept in value.items() if kept]
            records = [select(r, wanted) for r in records]
        elif name == "$count":
            records = [{value: len(records)}] if records else []
        else:
            raise ValueError(f"the stand-in knows no {name}")
    return records


def computed(record: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Return what $project makes of fields that are named with a dollar sign."""
    found = {}
    for name, path in fields.items():
        if path and (values := reached(record, path.removeprefix("$").split("."))):
            found[name] = values[0]
    return found


def reached(value: Any, path: list[str]) -> list[Any]:
    """Return what an expression such as $a.b has, in a list, which is empty if that is missing."""
    if not path:
        return [value]
    if isinstance(value, list):
        return [[one for item in value if isinstance(item, dict) for one in reached(item, path)]]
    return reached(value[path[0]], path[1:]) if isinstance(value, dict) and path[0] in value else []


def unwound(record: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Yield a record for each element of a list; none where there is nothing, or null."""
    value = record.get(name)
    for item in value if isinstance(value, list) else [value]:
        if item is not None or isinstance(value, list):
            yield {**record, name: item}


def select(value: Any, fields: Iterable[str]) -> Any:
    """Return the fields of a record; of a list, those of each object and list in it."""
    if isinstance(value, list):
        return [select(item, fields) for item in value if isinstance(item, (dict, list))]
    parts = [name.partition(".") for name in fields]
    found = {}
    for name in value:
        below = [rest for top, _, rest in parts if top == name]
        if "" in below:
            found[name] = value[name]
        elif below and isinstance(value[name], (dict, list)):
            found[name] = select(value[name], below)
    return found


@dataclass
class S3:
    """An S3 service; buckets are private unless public, each in its own region."""

    requests: list[Request] = field(default_factory=list)
    public: set[str] = field(default_factory=set)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)  # prefix: status, code
    page: int = 1_000
    # given each request, returns the WSGI application that is to answer it instead, if any
    fault: Callable[[Request], Any] | None = None

    def __post_init__(self) -> None:
        """Start the server."""

        class Quiet(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else 40 ms are waited before each body

            def run_wsgi(self) -> None:
                if has_gone(self.connection):
                    self.close_connection = True
                else:
                    super().run_wsgi()

            def log(self, *_: Any, **__: Any) -> None:
                pass

        self.handler = Quiet
        self.moto = DomainDispatcherApplication(create_backend_app)
        # a tenth of each page: moto reads the times that it has written
        serialize.parse_to_aware_datetime = (  # type: ignore[attr-defined]
            cache(parse_to_aware_datetime)
        )
        # a third of each answer: moto compares the host with patterns of all services
        find = cache(self.moto.get_backend_for_host)
        self.moto.get_backend_for_host = find  # type: ignore[method-assign]
        self.server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self.server.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @contextmanager
    def over_tls(self, certificate: trustme.LeafCert) -> Iterator[str]:
        """Answer at an https:// address, too, which is what is yielded."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server = make_server(
            "localhost", 0, self, threaded=True, request_handler=self.handler, ssl_context=context
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.port}"
        server.shutdown()

    @property
    def backend(self) -> Any:
        """Moto's own store."""
        return s3_backends[ACCOUNT]["aws"]

    def clear(self) -> None:
        """Forget all buckets and requests."""
        self.backend.reset()
        self.requests.clear()
        self.public.clear()
        self.refused.clear()
        self.fault = None
        self.page = 1_000

    def put(
        self, bucket: str, keys: Iterable[str], region: str = "us-west-2", *, public: bool = False
    ) -> None:
        """Add objects to a bucket, which is made if it does not exist."""
        if bucket not in self.backend.buckets:
            self.backend.create_bucket(bucket, region)
        if public:
            self.public.add(bucket)
        for key in keys:
            self.backend.put_object(bucket, key, b"")

    def listings(self) -> list[Request]:
        """Return the requests that listed objects."""
        return [request for request in self.requests if "list-type" in request.query]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer one request."""
        query = {
            name: values[-1]
            for name, values in parse_qs(environ["QUERY_STRING"], keep_blank_values=True).items()
        }
        path = environ["PATH_INFO"]
        signature = environ.get("HTTP_AUTHORIZATION", "")
        request = Request(environ["REQUEST_METHOD"], path, query, signature=signature)
        request.token = environ.get("HTTP_X_AMZ_SECURITY_TOKEN", "")
        self.requests.append(request)
        if self.fault and (instead := self.fault(request)):
            return instead(environ, start_response)
        name = path.split("/")[1]
        bucket = self.backend.buckets.get(name)
        fault = bucket and self.refuse(bucket, query.get("prefix", ""), signature)
        if fault:
            status, code = fault
            content = (
                b"" if environ["REQUEST_METHOD"] == "HEAD" else ERROR.format(code, code).encode()
            )
            headers = [
                ("Content-Type", "application/xml"),
                ("Content-Length", str(len(content))),
                ("x-amz-bucket-region", bucket.region_name),
            ]
            start_response(f"{status} {code}", headers)
            return [content]
        if "list-type" in query:
            query["max-keys"] = str(min(self.page, int(query.get("max-keys", "1000"))))
            environ["QUERY_STRING"] = urlencode(query)
            return [self.list_objects(environ, start_response)]
        return self.moto(environ, start_response)

    def list_objects(self, environ: dict[str, Any], start_response: Any) -> bytes:
        """Return a page as moto has it, without the one element that moto forgets to encode."""
        started: list[Any] = []
        content = b"".join(self.moto(environ, lambda *values: started.append(values)))
        content = re.sub(b"(?s)<StartAfter>.*?</StartAfter>", b"", content)
        status, headers = started[0][:2]
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*headers, ("Content-Length", str(len(content)))])
        return content

    def refuse(self, bucket: Any, prefix: str, signature: str) -> tuple[int, str] | None:
        """Return the status and code with which S3 refuses a request, or None."""
        for refused, fault in self.refused.items():
            if prefix.startswith(refused):
                return fault
        if not signature:
            return None if bucket.name in self.public else (403, "AccessDenied")
        scope = re.search(r"Credential=([^/]+)/\d+/([^/]+)/s3/", signature)
        if not scope or scope[1] != KEY_ID:
            return 403, "InvalidAccessKeyId"
        if scope[2] != bucket.region_name:
            return 400, "AuthorizationHeaderMalformed"
        return None
