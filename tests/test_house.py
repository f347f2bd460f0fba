"""The house: which sub-package may import which, and which library belongs where."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import aichat_magic

PACKAGE = Path(aichat_magic.__file__).parent
RULE = "text < core < {http, store, schema, values} < providers < chat < batching < frames < magic < __init__"
ORDER = [set(re.findall(r"\w+", step)) for step in RULE.split("<")]
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "__pycache__" not in path.parts
}
# Libraries that one sub-package alone may import, wherever in it.
ONLY_IN = {
    "httpx": {"http"},
    "httptools": {"http"},
    "nest_asyncio": {"core"},
    "nest_asyncio2": {"core"},
    "IPython": {"magic", "text"},  # text: the one place that displays
    "tqdm": {"batching"},
    "pandas": {"frames", "batching", "text", "core"},  # core: for the types only
    "sqlite3": {"store"},
    "xllamacpp": {"providers"},
    "pydantic": {"schema"},
    "jsonschema": {"schema"},
    "narwhals": {"frames"},
    "huggingface_hub": {"providers"},
    "wordllama": {"providers"},
    "azure": {"providers"},
    "keyring": {"core"},
    "truststore": {"http"},
}


def step_of(module: str) -> int:
    package = module.partition(".")[0]
    return next(number for number, packages in enumerate(ORDER) if package in packages)


def imports_of(module: str) -> Iterator[tuple[str, ...]]:
    """Every import of a module, wherever it stands in the file and for types too, as absolute parts."""
    here = ("aichat_magic", *module.split("."))
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            parts = (*base, *(node.module.split(".") if node.module else ()))
            yield from ((*parts, alias.name) for alias in node.names)


def own_imports_of(module: str) -> Iterator[str]:
    """The modules of the package that a module imports."""
    for parts in imports_of(module):
        if parts[0] == "aichat_magic":
            full, parent = ".".join(parts[1:]), ".".join(parts[1:-1])
            names = (full, f"{full}.__init__", parent, f"{parent}.__init__" if parent else "__init__")
            yield next(name for name in names if name in MODULES)


def test_order_names_every_package() -> None:
    assert {module.partition(".")[0] for module in MODULES} == set().union(*ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_from_its_own_package_or_a_lower_one(module: str) -> None:
    for other in own_imports_of(module):
        is_own = other.partition(".")[0] == module.partition(".")[0]
        assert is_own or step_of(other) < step_of(module), f"{module} imports {other}; the rule: {RULE}"


@pytest.mark.slow
def test_no_modules_import_each_other_in_a_circle() -> None:
    waiting = {module: set(own_imports_of(module)) - {module} for module in MODULES}
    while free := [module for module, others in waiting.items() if not others & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert not waiting, f"in a circle, or above one: {sorted(waiting)}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.endswith(".__init__")])
def test_package_says_what_lives_in_it_and_nothing_else(module: str) -> None:
    body = ast.parse(MODULES[module].read_text("utf-8")).body
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value, ast.Constant), "a docstring"
    if module != "providers.aichat.__init__":  # its four names are public
        assert len(body) == 1
    package = module.removesuffix(".__init__")
    rooms = {name.removeprefix(f"{package}.").partition(".")[0] for name in MODULES if name.startswith(f"{package}.")}
    named = set(re.findall(r"\w+", str(body[0].value.value)))
    assert rooms - {"__init__"} <= named


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short_enough_to_be_read(module: str) -> None:
    assert len(MODULES[module].read_text("utf-8").splitlines()) <= 500


@pytest.mark.parametrize("module", MODULES)
def test_library_is_imported_in_its_own_package_only(module: str) -> None:
    for parts in imports_of(module):
        packages = ONLY_IN.get(parts[0])
        assert packages is None or module.partition(".")[0] in packages, f"{parts[0]} belongs to {packages}"


def test_no_class_has_the_name_of_another() -> None:
    seen: dict[str, str] = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                assert node.name not in seen, f"{node.name} in {module} and {seen[node.name]}"
                seen[node.name] = module


@pytest.mark.slow
def test_no_helper_has_a_public_name() -> None:
    public = {name for name in aichat_magic.__all__ if name.islower()}
    homes = {name: aichat_magic._HOMES[name] for name in public}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name in public:
                assert homes[node.name] == module, f"{node.name} in {module} is not the public one"


def hazards_in(tree: ast.AST) -> set[str]:
    """What could run code that stands in a text or a file: functions that are called, modules that are imported."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(node.func.id)
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found & {"eval", "exec", "compile", "__import__", "pickle", "marshal", "shelve", "dill"}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_pickles_or_evaluates(module: str) -> None:
    assert not hazards_in(ast.parse(MODULES[module].read_text("utf-8")))


@pytest.mark.parametrize(
    "planted", ["import pickle", "def read(x):\n    from marshal import loads\n    return loads(x)", "y = [eval('1')]"]
)
def test_what_pickles_or_evaluates_is_found(planted: str) -> None:
    assert hazards_in(ast.parse(planted))


def docstrings() -> Iterator[tuple[str, str]]:
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (
                text := ast.get_docstring(node)
            ):
                yield f"{module}:{node.name}", text


def test_docstrings_say_what_is_done() -> None:
    every = list(docstrings())
    riddles = [name for name, text in every if re.match(r"(What|Whether|How|Who|Where)\b", text)]
    assert len(riddles) < 0.03 * len(every), riddles
