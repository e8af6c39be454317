"""The rules that ``test_house_rules.py`` holds the source to, as pure functions from code to sentences.

In: a parsed module. Out: one sentence per breach, empty when there is none. Each rule is small enough to be tested on a
snippet of bad code, so that a rule which stopped seeing anything would itself fail a test.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 8
MAX_COMPLEXITY = 12

FORBIDDEN_WORDS = {"utils", "util", "helpers", "helper", "common", "misc", "new", "v2", "final", "legacy"}
"""Words no file or folder may be named with, alone or after an underscore: a helper lives with its concept."""

IMPORT_ORDER = (
    "errors",
    "registry",
    "shipped",
    "config",
    "durations",
    "liveness",
    "files",
    "hub",
    "checkpoint",
    "device",
    "cost",
    "distributed",
    "shares",
    "image_grid",
    "layers",
    "data",
    "encoders",
    "autoencoder",
    "losses",
    "transport",
    "conditioning",
    "backbones",
    "multimodal",
    "samplers",
    "denoiser",
    "verifiers",
    "seeds",
    "variations",
    "trajectories",
    "best_of",
    "generator_files",
    "latent_file",
    "lora",
    "generate",
    "understand",
    "metrics",
    "reconstruct",
    "evaluate",
    "training",
    "bench",
    "studies",
    "interop",
    "cli",
)
"""The page: a module may import its own folder and whatever stands above it here, also inside functions."""

FRONT_DOOR = "raekit"
"""``raekit/__init__.py`` and ``__main__.py``: they import anything; only the command line imports them."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One parsed file.

    Attributes:
        path: relative to the package, e.g. ``samplers/ode.py``.
        text: the source.
        tree: its syntax tree.
    """

    path: Path
    text: str
    tree: ast.Module

    @classmethod
    def parse(cls, path: str | Path, text: str) -> Module:
        return cls(Path(path), text, ast.parse(text))

    @property
    def place(self) -> str:
        """The folder or file of the package that it belongs to: a word of :data:`IMPORT_ORDER`, or the front door."""
        first = self.path.parts[0]
        return FRONT_DOOR if first.startswith("__") else first.removesuffix(".py")

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


def size(module: Module) -> list[str]:
    """File and function length, number of parameters, complexity."""
    found = []
    lines = len(module.text.splitlines())
    if lines > MAX_FILE_LINES:
        found.append(f"{lines} lines, at most {MAX_FILE_LINES}")
    for function in module.functions():
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        for what, value, limit in (
            ("lines", length, MAX_FUNCTION_LINES),
            ("parameters", len(parameters(function)), MAX_PARAMETERS),
            ("decisions", complexity(function), MAX_COMPLEXITY),
        ):
            if value > limit:
                found.append(f"{function.name}: {value} {what}, at most {limit}")
    return found


def parameters(function: Function) -> list[ast.arg]:
    """All parameters but ``self`` and ``cls``."""
    args = function.args
    named = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    return [arg for arg in named if arg is not None and arg.arg not in ("self", "cls")]


def complexity(function: Function) -> int:
    """Cyclomatic complexity: one, plus one for every branch, loop, exception handler and match case."""
    decisions = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
    return 1 + sum(isinstance(node, decisions) for node in ast.walk(function))


def documented(module: Module) -> list[str]:
    """Every module opens with a docstring."""
    return [] if ast.get_docstring(module.tree) else ["has no module docstring"]


def annotated(module: Module) -> list[str]:
    """Public functions and the methods of public classes annotate every parameter and the result."""
    found = []
    for function in _public_functions(module.tree):
        bare = [arg.arg for arg in parameters(function) if arg.annotation is None]
        if bare:
            found.append(f"{function.name}: parameters without annotation: {', '.join(bare)}")
        if function.returns is None:
            found.append(f"{function.name}: no annotation of the result")
    return found


def named(module: Module) -> list[str]:
    """No file or folder is called after being a helper, or after being newer than another."""
    found = []
    for part in module.path.parts:
        words = set(part.removesuffix(".py").split("_"))
        found += [f"{part!r} is named {word!r}" for word in sorted(words & FORBIDDEN_WORDS)]
    return found


def silent(module: Module) -> list[str]:
    """``print`` stays in ``cli/``: a library reports through its results, logs and errors."""
    if module.place == "cli":
        return []
    return [f"line {call.lineno}: print" for call in _calls(module.tree) if _called(call) == "print"]


def narrow_except(module: Module) -> list[str]:
    """No bare ``except``, and none of ``Exception`` that does not raise again."""
    found = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        is_blind = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
        if is_blind and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
            found.append(f"line {node.lineno}: blind except")
    return found


def safe_loading(module: Module) -> list[str]:
    """``torch.load`` only in ``interop/`` and with ``weights_only=True``; pickles nowhere."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and "pickle" in _imported_names(node):
            found.append(f"line {node.lineno}: pickle")
        if isinstance(node, ast.ImportFrom) and node.module == "torch" and "load" in _imported_names(node):
            found.append(f"line {node.lineno}: torch.load under another name")
    for call in _calls(module.tree):
        if _called(call) != "torch.load":
            continue
        if module.place != "interop":
            found.append(f"line {call.lineno}: torch.load outside interop/")
        if not _is_constant(_keyword(call, "weights_only"), True):
            found.append(f"line {call.lineno}: torch.load without weights_only=True")
    return found


def strict_loading(module: Module) -> list[str]:
    """A partial ``load_state_dict`` keeps its report and compares it with a list called ``permitted...``.

    The function that calls it non-strictly must use the result (an ignored report is a silent partial load) and must
    read a name that contains ``permitted``: the keys that may be missing or left over, said by name.
    """
    found = []
    for function in module.functions():
        ignored = {id(node.value) for node in ast.walk(function) if isinstance(node, ast.Expr)}
        read = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        for call in _calls(function):
            if not _is_partial_load(call):
                continue
            if id(call) in ignored:
                found.append(f"line {call.lineno}: the report of a non-strict load_state_dict is ignored")
            if not any("permitted" in name.lower() for name in read):
                found.append(f"line {call.lineno}: non-strict load_state_dict without a list of permitted keys")
    return found + [
        f"line {call.lineno}: non-strict load_state_dict at import"
        for node in module.tree.body
        if not isinstance(node, Function | ast.ClassDef)
        for call in _calls(node)
        if _is_partial_load(call)
    ]


def import_direction(module: Module, order: tuple[str, ...] = IMPORT_ORDER) -> list[str]:
    """Imports only go up the page."""
    if module.place == FRONT_DOOR:
        return []
    if module.place not in order:
        return [f"{module.place!r} has no place in IMPORT_ORDER"]
    found = []
    for line, target in imported_places(module):
        if target == FRONT_DOOR:
            if module.place != "cli":
                found.append(f"line {line}: imports the front door")
        elif target not in order:
            found.append(f"line {line}: imports {target!r}, which has no place in IMPORT_ORDER")
        elif order.index(target) > order.index(module.place):
            found.append(f"line {line}: {module.place} imports {target}, which stands below it")
    return found


def imported_places(module: Module) -> Iterator[tuple[int, str]]:
    """(line, place) of everything imported from this package."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "(a relative import)"
            continue
        elif isinstance(node, ast.ImportFrom) and node.module == "raekit":
            dotted = [f"raekit.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            dotted = [node.module or ""]
        else:
            continue
        for name in dotted:
            parts = name.split(".")
            if parts[0] == "raekit":
                is_private = len(parts) > 1 and parts[1].startswith("__")
                yield node.lineno, FRONT_DOOR if len(parts) == 1 or is_private else parts[1]


RULES = (
    size,
    documented,
    annotated,
    named,
    silent,
    narrow_except,
    safe_loading,
    strict_loading,
    import_direction,
)


def _public_functions(tree: ast.Module | ast.ClassDef) -> Iterator[Function]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node)
        elif isinstance(node, Function) and (node.name == "__init__" or not node.name.startswith("_")):
            yield node


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func)


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_partial_load(call: ast.Call) -> bool:
    """A ``load_state_dict`` whose ``strict`` is anything but absent or a literal True."""
    if not _called(call).endswith("load_state_dict"):
        return False
    strict = _keyword(call, "strict") or (call.args[1] if len(call.args) > 1 else None)
    return strict is not None and not _is_constant(strict, True)


def _imported_names(node: ast.Import | ast.ImportFrom) -> set[str]:
    source = {node.module.split(".")[0]} if isinstance(node, ast.ImportFrom) and node.module else set()
    return source | {alias.name for alias in node.names}
