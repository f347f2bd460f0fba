"""qtconsole's own window on a kernel that runs already: `python qt_console.py CONNECTION_FILE < steps > pages`.

Steps and answers are lines of JSON: ``{"run": code}`` runs a cell, ``{"picture": path}`` saves the window, and
``{"interrupt": text, "run": code}`` interrupts the cell once its output holds the text. The answer is the page then:
all text of the window, as its user sees it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# An address that is not there must end the program, and not the test's patience.
_PATIENCE_S = 60.0


def main(connection_file: str, pid: int) -> None:
    """Answer each step with the page."""
    from qtconsole.client import QtKernelClient
    from qtconsole.rich_jupyter_widget import RichJupyterWidget
    from qtpy import QtWidgets

    app = QtWidgets.QApplication([])
    client = QtKernelClient(connection_file=connection_file)
    client.load_connection_file()
    client.start_channels()
    window = RichJupyterWidget()
    window.kernel_client = client
    window.resize(1100, 900)
    window.show()

    def page() -> str:
        return str(window._control.toPlainText())

    def wait(condition: Any) -> None:
        end = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(page())
            app.processEvents()
            time.sleep(0.005)

    wait(lambda: window._prompt.startswith("In ["))
    for line in sys.stdin:
        step = json.loads(line)
        if path := step.get("picture"):
            window.grab().save(path)
        if code := step.get("run"):
            done: list[object] = []
            window.executed.connect(done.append)
            window.execute(code)
            if text := step.get("interrupt"):
                begin = len(page()) - len(code)
                wait(lambda: text in page()[begin:])  # noqa: B023  # called at once
                os.kill(pid, signal.SIGINT)
            wait(lambda: done)  # noqa: B023  # called at once
            window.executed.disconnect(done.append)
            wait(lambda: not window._executing)
        print(json.dumps(page()), flush=True)  # noqa: T201  # the answer


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
