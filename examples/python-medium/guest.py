"""Python as a code medium: what a model writes runs in here, its gates are functions, and its names stay from turn to turn."""

import ast
import builtins
import json
import sys

import wit_world
from componentize_py_types import Err
from wit_world.imports import gates, log
from wit_world.imports.types import Error_Denied


class Stop(BaseException):
    """Ends the code after `done`: nothing that the code catches."""


class GateError(Exception):
    """A gate that failed."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind
        self.message = message


class Output:
    """What is printed goes into the observation."""

    def __init__(self):
        self.line = ""

    def write(self, text: str) -> int:
        self.line += text
        while "\n" in self.line:
            line, self.line = self.line.split("\n", 1)
            log.log(log.Level.INFO, line)
        return len(text)

    def flush(self):
        if self.line:
            log.log(log.Level.INFO, self.line)
            self.line = ""


def gate(name: str):
    """The function that calls a gate: by position, or by name."""

    def call(*positional, **named):
        arguments = {**named} if named else list(positional)
        if named and positional:
            raise TypeError(f"{name}() takes its arguments by position or by name, not both")
        try:
            answer = gates.call(name, json.dumps(arguments))
        except Err as error:
            kind = type(error.value).__name__.removeprefix("Error_").lower()
            if isinstance(error.value, Error_Denied) and scope.done:
                raise Stop from None
            raise GateError(kind, error.value.value) from None
        if name == "done":
            scope.done = True
            raise Stop
        return json.loads(answer)

    call.__name__ = name
    return call


class Scope:
    """What the code has named so far."""

    def __init__(self):
        self.names = None
        self.done = False

    def ready(self) -> dict:
        if self.names is None:
            self.names = {"__name__": "__main__", "__builtins__": builtins, "GateError": GateError}
            # `cantrip.new` and its like are for a language with objects of its own; here call_entity does the same.
            self.names.update({name: gate(name) for name in gates.names() if "." not in name})
        self.done = False
        return self.names


scope = Scope()


class WitWorld(wit_world.WitWorld):
    def evaluate(self, source: str) -> wit_world.Value:
        names = scope.ready()
        output = Output()
        sys.stdout = sys.stderr = output
        value, thrown = None, None
        try:
            value = run(source, names)
        except Stop:
            pass
        except BaseException as error:  # What the code raises is for the model to see, SystemExit included.
            thrown = wit_world.Thrown(type(error).__name__, str(error), trace(error))
        output.flush()
        if thrown is not None:
            raise Err(thrown)
        if value is None:
            return wit_world.Value(None, "", "undefined")
        try:
            as_json = json.dumps(value)
        except (TypeError, ValueError):
            as_json = None
        return wit_world.Value(as_json, repr(value), type(value).__name__)

    def reset(self) -> None:
        scope.names = None


def run(source: str, names: dict):
    """The value of the last expression, if the code ends with one."""
    tree = ast.parse(source, "<code>")
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, "<code>", "exec"), names)
    return None if last is None else eval(compile(last, "<code>", "eval"), names)


def trace(error: BaseException) -> str:
    """Where in the code it was, without where in this file. The module traceback would look for files, and there are none."""
    lines, at = [], error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        if code.co_filename == "<code>":
            lines.append(f"line {at.tb_lineno}, in {code.co_name}")
        at = at.tb_next
    return "\n".join(lines)
