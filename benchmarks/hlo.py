"""A compiled program's text in; the floating-point operations of its matrix products and the bytes that it moves out.

XLA's own `cost_analysis()` counts the body of a loop once, however often it runs. Here every computation is counted as
often as it runs: a loop's body times the trip count that XLA writes beside it (`known_trip_count`).

FLOPs: 2 x (elements of the product) x (length of the contraction), of every dot and every library call for one.
Bytes: results and operands of every instruction that is not inside a fusion, as `cost_analysis()` has it; of a slice,
a gather or an update in place only the part that is read or written. What stays in a cache counts all the same.
"""

import math
import re
from typing import NamedTuple

SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s64": 8, "u64": 8, "f64": 8}
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "iota"}
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
CONTRACTING = re.compile(r'lhs_contracting_dim(?:ension)?s"?[=:][{\[]([\d,"]*)')


class Instruction(NamedTuple):
    name: str
    shape: str
    kind: str
    operands: list[str]
    rest: str  # the line behind the opening parenthesis
    root: bool


class Cost(NamedTuple):
    flops: float = 0.0  # of matrix products
    bytes: float = 0.0
    unknown: int = 0  # loops whose trip count XLA doesn't know: counted once

    def plus(self, other: "Cost", times: float = 1) -> "Cost":
        flops, moved = self.flops + times * other.flops, self.bytes + times * other.bytes
        return Cost(flops, moved, self.unknown + other.unknown)


def cost(text: str, trips: bool = True) -> Cost:
    """What the program of `compiled.as_text()` costs; with `trips` false every loop's body counts once."""
    program, entry = parse(text)
    seen: dict[str, Cost] = {}

    def total(name: str) -> Cost:
        if name not in seen:
            seen[name] = found = Cost()
            here = {one.name: one for one in program[name]}
            for one in program[name]:
                found = found.plus(Cost(flops(one, here), moved(one, here, program)))
                for called in re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", one.rest):
                    inner, times = total(called), 1
                    if one.kind == "fusion":  # its products count, what it moves was counted from outside
                        inner = inner._replace(bytes=0.0)
                    elif one.kind == "while" and trips:
                        known = re.search(r'known_trip_count":\{"n":"(\d+)"', one.rest)
                        times = int(known[1]) if known else 1
                        inner = inner if known or f"body=%{called}" not in one.rest else inner._replace(unknown=1)
                    elif one.kind not in ("while", "call"):  # a reduction's sum and the like, once for each element
                        inner = Cost()
                    found = found.plus(inner, times)
                branches = re.search(r"branch_computations=\{(.*?)\}", one.rest)
                names = re.findall(r"%([\w.\-]+)", branches[1]) if branches else []
                names += re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", one.rest)
                if names:
                    found = found.plus(max((total(n) for n in names), key=lambda c: c.bytes))
            seen[name] = found
        return seen[name]

    return total(entry)


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The computations by name, and the name of the first to run."""
    program, entry, body = {}, "", None
    for line in text.splitlines():
        if line.endswith("{") and " = " not in line.split("(")[0] and "->" in line:
            name = re.match(r"(?:ENTRY )?%?([\w.\-]+)", line)[1]
            body = program[name] = []
            entry = name if line.startswith("ENTRY") else entry
        elif line.startswith("}"):
            body = None
        elif body is not None and (found := INSTRUCTION.match(line)):
            name, shape, kind, rest = found.groups()
            operands = re.findall(r"%([\w.\-]+)", rest[: closing(rest)])
            body.append(Instruction(name, shape, kind, operands, rest, "ROOT " in line[:10]))
    return program, entry


def closing(rest: str) -> int:
    """Where the parenthesis that is open at the start of `rest` is closed."""
    depth = 1
    for i, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return i
    return len(rest)


def dims(shape: str) -> list[int]:
    found = re.search(r"\[([\d,]*)\]", shape)
    return [int(n) for n in found[1].split(",") if n] if found else []


def size(shape: str) -> float:
    """Bytes of a shape, or of a tuple of shapes."""
    parts = re.findall(r"([a-z]\w*)\[([\d,]*)\]", shape)
    return float(sum(SIZES.get(kind, 4) * math.prod(int(n) for n in axes.split(",") if n) for kind, axes in parts))


def flops(one: Instruction, here: dict[str, Instruction]) -> float:
    product = one.kind == "dot" or (one.kind == "custom-call" and re.search(r"gemm|matmul", one.rest))
    axes = CONTRACTING.search(one.rest) if product else None
    if axes is None:
        return 0.0
    left = dims(here[one.operands[0]].shape)
    contracted = math.prod(left[int(n)] for n in axes[1].replace('"', "").split(",") if n)
    return 2.0 * math.prod(dims(one.shape)) * contracted


def moved(one: Instruction, here: dict[str, Instruction], program: dict[str, list[Instruction]]) -> float:
    if one.kind in FREE:
        return 0.0
    called = re.search(r"calls=%?([\w.\-]+)", one.rest) if one.kind == "fusion" else None
    if called is None:
        return part(one, here, [size(here[name].shape) for name in one.operands if name in here])
    inside = {x.name: x for x in program[called[1]]}
    read = 0.0
    for x in inside.values():
        if x.kind != "parameter":
            continue
        uses = [y for y in inside.values() if x.name in y.operands]
        if uses and all(y.kind in ("dynamic-slice", "slice", "gather") and y.operands[0] == x.name for y in uses):
            read += sum(size(y.shape) for y in uses)
        elif not any(y.kind == "dynamic-update-slice" and y.operands[0] == x.name for y in uses):
            read += size(x.shape)
    roots = [y for y in inside.values() if y.root]
    ends = [inside[n] for n in roots[0].operands] if roots[0].kind == "tuple" else roots
    return read + sum(written(y, inside) for y in ends)


def written(one: Instruction, inside: dict[str, Instruction]) -> float:
    while one.kind == "bitcast":
        one = inside[one.operands[0]]
    return size(inside[one.operands[1]].shape) if one.kind == "dynamic-update-slice" else size(one.shape)


def part(one: Instruction, here: dict[str, Instruction], operands: list[float]) -> float:
    if one.kind in ("dynamic-slice", "slice", "gather"):
        return 2 * size(one.shape)
    if one.kind == "dynamic-update-slice":
        return 2 * size(here[one.operands[1]].shape)
    if one.kind == "scatter":
        return 2 * size(here[one.operands[-1]].shape)
    return size(one.shape) + sum(operands)
