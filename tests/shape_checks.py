"""Every shape in a signature of the library, checked at each call of the suite.

The library imports jaxtyping for type checkers alone, so that a user pays nothing for it. Here the
same files are loaded with those imports carried out and with every annotated function checked by
jaxtyping and beartype: an argument or a result of another shape than its annotation fails the test.
"""

import ast
import functools
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FunctionType
from typing import Any

CHECKED = ("jacreg", "models")


class _Checked(ast.NodeTransformer):
    """Type-only imports carried out; annotated functions decorated."""

    def visit_If(self, node: ast.If) -> Any:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            found = []
            for each in node.body:
                new = self.visit(each)
                found += new if isinstance(new, list) else [new]
            return found
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        """`Array` of jaxtyping is jax's alone; the library takes whatever has a shape."""
        if node.module != "jaxtyping":
            return node
        named = [alias for alias in node.names if alias.name != "Array"]
        own = ast.ImportFrom("shape_checks", [ast.alias("Array")], 0)
        kept = [ast.ImportFrom("jaxtyping", named, 0)] if named else []
        return kept if len(named) == len(node.names) else [*kept, own]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        self.generic_visit(node)
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        annotations = [a.annotation for a in arguments if a.annotation is not None]
        annotations += [node.returns] if node.returns is not None else []
        # A check costs a tenth of a millisecond a call: where there is a shape, not elsewhere.
        annotated = any(_names_a_shape(each) for each in annotations)
        names = {d.id for d in node.decorator_list if isinstance(d, ast.Name)}
        if annotated and not names & {"overload", "property", "cached_property"}:
            node.decorator_list.append(ast.Name("__shapes_checked__", ast.Load()))
        return node


def _names_a_shape(annotation: ast.expr) -> bool:
    """Whether a `Float[Array, "N *in"]` or its like stands in it."""
    return any(
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Tuple)
        and len(node.slice.elts) == 2
        and isinstance(node.slice.elts[1], ast.Constant)
        and isinstance(node.slice.elts[1].value, str)
        for node in ast.walk(annotation)
    )


class _Loader(SourceFileLoader):
    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:
        tree = ast.parse(data, path)
        tree = _Checked().visit(tree)
        at = 0
        for at, node in enumerate(tree.body):  # noqa: B007
            is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
            if not (is_docstring or is_future):
                break
        bring = ast.parse("from shape_checks import shapes_checked as __shapes_checked__").body
        tree.body[at:at] = bring
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)

    def get_code(self, fullname: str) -> Any:
        # Never from or into __pycache__: that is the library's own, unchecked.
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.split(".")[0] not in CHECKED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _AnyArray(type):
    """What has a shape and a dtype: jax, numpy, tracers, `jax.ShapeDtypeStruct`."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return hasattr(instance, "shape") and hasattr(instance, "dtype")


class Array(metaclass=_AnyArray):
    """Stands for `jaxtyping.Array` in the checked files."""


def shapes_checked(function: Any) -> Any:
    """Check the shapes of one function's arguments and result at each call.

    What a signature does not admit the function may refuse itself, by an error that says what to
    do; only where it takes it does the check fail. Trees may stand for arrays (the docstrings say
    where), so a call with one is not judged.
    """
    from beartype import BeartypeConf, beartype
    from jaxtyping import TypeCheckError, jaxtyped

    checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
    results: list[Any] = []

    def kept(*args: Any, **kwargs: Any) -> Any:
        results.append(None)  # of a call that a nested one may end early
        results[-1] = result = function(*args, **kwargs)
        return result

    # With the globals of the function, in which its annotations are looked up.
    kept = FunctionType(kept.__code__, function.__globals__, closure=kept.__closure__)
    checked = jaxtyped(functools.wraps(function)(kept), typechecker=checker)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        before = len(results)
        try:
            return checked(*args, **kwargs)
        except TypeCheckError as error:
            if f"{function.__module__}.{function.__qualname__}." not in str(error):
                raise
            # It is never called twice: a module would make its parameters again.
            called = len(results) > before
            result = results[before] if called else function(*args, **kwargs)
            if not any(map(_is_tree, (*args, *kwargs.values(), result))):
                _violation(function, error)
            return result
        finally:
            del results[before:]

    return call


def _is_tree(value: Any) -> bool:
    """Whether it is a tree that stands where an array may: then its leaves have the shapes."""
    return isinstance(value, dict | list | tuple) and bool(value)


def _violation(function: Any, error: Exception) -> None:
    log = os.environ.get("SHAPES_LOG")
    if not log:
        raise error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    with open(log, "a") as file:
        name = f"{function.__module__}.{function.__qualname__}"
        file.write(" | ".join([name, *lines[:4]])[:400] + "\n")


def install() -> None:
    """Check what is imported from now on."""
    loaded = [name for name in sys.modules if name.split(".")[0] in CHECKED]
    if loaded:
        raise RuntimeError(f"imported before its shapes could be checked: {loaded[:3]}")
    sys.meta_path.insert(0, _Finder())
