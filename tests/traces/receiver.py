"""A receiver of OTLP made of OpenTelemetry's and gRPC's own generated service.

It prints its port, then for each export one line of JSON: the headers that it came with, and the names of its spans.

usage: receiver.py [--refuse] [--cert FILE --key FILE]
"""

import argparse
import concurrent.futures
import json
import threading

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, refuse):
        self.refuse = refuse

    def Export(self, request, context):
        names = [span.name for of in request.resource_spans for scope in of.scope_spans for span in scope.spans]
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        print(json.dumps({"headers": headers, "names": names}), flush=True)
        if self.refuse:
            # What some receivers do: the refusal repeats the credential.
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "refused: " + headers.get("authorization", ""))
        return trace_service_pb2.ExportTraceServiceResponse()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--refuse", action="store_true")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    arguments = parser.parse_args()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Receiver(arguments.refuse), server)
    if arguments.cert:
        with open(arguments.cert, "rb") as cert, open(arguments.key, "rb") as key:
            credentials = grpc.ssl_server_credentials([(key.read(), cert.read())])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    threading.Event().wait()


main()
