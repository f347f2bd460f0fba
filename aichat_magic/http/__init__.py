"""HTTP for the providers: requests go out, responses come back, failures become typed errors.

Open `client` for what a provider calls, `exchange` for one request and its response, `adapters` for the kinds of
connections, `connection` for our own sockets, `response` for parsing the bytes of a response, `decoding` for content
codings, `pool` and `connection_limit` for connections that are kept open, `deadlines` for how long to wait,
`httpx_adapter` and `instrumentation` for proxies, mocks and instrumentation of httpx, `sse` for server-sent events,
`errors` for what a status or a broken connection means, `error_bodies` for what a server writes about a failure,
`refusals` for what it does not accept, `waits` for how long it asks to wait, `rate_limits` for its rate limits,
`durations` for times as servers write them, `request` and `urls` for what is sent and where, `download` for large
files.

Nothing here knows how any provider is asked; of their answers, only how they tell failures and limits.
"""
