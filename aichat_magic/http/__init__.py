"""HTTP for the providers: requests go out, responses come back, errors are typed.

Open `client` for what a provider calls, `exchange` for one request and its response, `adapters` for the kinds of
connections, `connection` for our own sockets, `response` for the bytes of a response, `decoding` for content codings,
`pool` and `connection_limit` for connections kept open, `httpx_adapter` and `instrumentation` for proxies, mocks and
whoever watches httpx, `sse` for server-sent events, `errors` for what a status means, `rate_limits` for what headers
say, `request` and `urls` for what is sent and where.

No dialect of a provider is known here.
"""
