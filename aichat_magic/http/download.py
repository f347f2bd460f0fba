"""Downloads of large files to the disk, from blocking code: a response is appended to what has arrived before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

_PIECE_BYTES = 2**18


class BrokenDownloadError(Exception):
    """A download that broke off, with the reason in a few words; it may go on where it ended."""


def append_response(
    url: str, path: Path, *, size: int, headers: Mapping[str, str], timeout_s: float, progress: Callable[[int], None]
) -> None:
    """Fetch what a file lacks, and append it; a server that sends all again is heeded.

    Args:
        url: Address of the file. A redirect to another host gets no authorization.
        path: The file, which need not exist yet.
        size: Its bytes when it is whole.
        headers: Headers to send.
        timeout_s: Longest wait for the connection, and for each piece.
        progress: Called with the bytes of the file before each piece is written; an exception ends the download.

    Raises:
        BrokenDownloadError: It broke off, or there was no file.
        OSError: The file cannot be written.
    """
    import httpx  # needed for downloads only

    have = path.stat().st_size if path.exists() else 0
    sent = {**headers, "accept-encoding": "identity", **({"range": f"bytes={have}-"} if have else {})}
    broken = ""
    try:
        with httpx.stream("GET", url, headers=sent, timeout=timeout_s, follow_redirects=True) as response:
            if response.status_code not in (200, 206):
                raise BrokenDownloadError(f"the server answers with status {response.status_code}")
            is_rest = response.status_code == 206
            done = have if is_rest else 0
            with path.open("ab" if is_rest else "wb") as out:
                for piece in response.iter_raw(_PIECE_BYTES):
                    done += len(piece)
                    if done > size:
                        raise BrokenDownloadError("more bytes came than the file has")
                    progress(done)
                    out.write(piece)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        broken = type(error).__name__
    if broken:
        raise BrokenDownloadError(f"the connection failed ({broken})")
