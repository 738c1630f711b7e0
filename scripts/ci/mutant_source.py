"""Writes mutants into a Rust source file, beside the original code: `mutants::is(N)` chooses mutant N at run time.

Comments mark the text that belongs to mutants: `/*<N*/` to `/*>N*/`. A compiler error inside it is blamed on them.
"""

import collections

import tree_sitter_rust
from tree_sitter import Language, Parser

COMPARISONS = {"==", "!=", "<", ">", "<=", ">="}
PARSER = Parser(Language(tree_sitter_rust.language()))


def is_constant(function):
    """Whether it is a `const fn`, which cannot choose at run time."""
    return any(c.type == "function_modifiers" and b"const" in c.text for c in function.children)


def marked(mutants, text):
    ids = ",".join(str(mutant["id"]) for mutant in mutants)
    return f"/*<{ids}*/{text}/*>{ids}*/"


class Source:
    """One file, and the mutants to write into it."""

    def __init__(self, text, mutants, path_of_is):
        self.text = text.encode()
        self.tree = PARSER.parse(self.text)
        self.path_of_is = path_of_is
        self.lines = text.split("\n")
        self.line_starts = [0]
        for line in self.lines:
            self.line_starts.append(self.line_starts[-1] + len(line.encode()) + 1)
        self.written = set()
        self.by_span, self.by_field, self.by_body = (collections.defaultdict(list) for _ in range(3))
        functions = self.functions()
        for mutant in mutants:
            self.place(mutant, functions)

    def place(self, mutant, functions):
        span = tuple(self.offset(mutant["span"][end]) for end in ("start", "end"))
        if mutant["genre"] == "FnValue":
            bodies = [body for body in functions if body.start_byte < span[0] and span[1] < body.end_byte]
            self.by_body[max(body.start_byte for body in bodies)].append(mutant)
        elif mutant["genre"] == "StructField":
            # Its span includes the comma.
            self.by_field[span[0]].append(mutant)
        else:
            self.by_span[span].append(mutant)

    def offset(self, place):
        """In bytes, of a line and a column in characters, both from 1."""
        line = self.lines[place["line"] - 1]
        return self.line_starts[place["line"] - 1] + len(line[: place["column"] - 1].encode())

    def functions(self):
        """The bodies of all functions."""
        found, todo = [], [self.tree.root_node]
        while todo:
            node = todo.pop()
            if node.type == "function_item":
                found.append(node.child_by_field_name("body"))
            todo.extend(node.children)
        return found

    def is_chosen(self, mutant):
        self.written.add(mutant["id"])
        return f"{self.path_of_is}({mutant['id']})"

    def choice(self, alternatives, original):
        """`if is(1) { a } else if is(2) { b } else { original }`"""
        ifs = (f"if {self.is_chosen(m)} {{ {marked([m], text)} }} else " for m, text in alternatives)
        return marked([m for m, _ in alternatives], f"({''.join(ifs)}{{ {original} }})")

    def at(self, node):
        return self.by_span.get((node.start_byte, node.end_byte), [])

    def render(self, node):
        """The text of `node`, with its mutants."""
        if node.type == "token_tree" or (node.type == "function_item" and is_constant(node)):
            return node.text.decode()
        render = getattr(self, f"render_{node.type}", None)
        return (render and render(node)) or self.unchanged(node, node.start_byte)

    def unchanged(self, node, start):
        """The text of `node` from `start` on, with the mutants inside it."""
        text, here = "", start
        for child in node.children:
            if child.start_byte >= start:
                text += self.text[here : child.start_byte].decode() + self.render(child)
                here = child.end_byte
        return text + self.text[here : node.end_byte].decode()

    def render_block(self, node):
        if mutants := self.by_body.get(node.start_byte):
            returns = (
                f"if {self.is_chosen(m)} {{ {marked([m], 'return ' + m['replacement'] + ';')} }} " for m in mutants
            )
            return "{ " + "".join(returns) + self.unchanged(node, node.start_byte)[1:]

    def render_binary_expression(self, node):
        left, sign, right = (node.child_by_field_name(part) for part in ("left", "operator", "right"))
        if not (mutants := self.at(sign)):
            return None
        a, b, operator = self.render(left), self.render(right), sign.text.decode()
        if operator in ("&&", "||"):
            # Both operands stand here once: a long chain does not become exponentially longer.
            compare = "!=" if operator == "&&" else "=="
            either = f"if first {compare} {self.is_chosen(mutants[0])} {{ {b} }} else {{ first }}"
            return marked(mutants, f"(match ({a}) {{ first => {either} }})")
        by = "&" if operator in COMPARISONS else ""
        chosen = self.choice([(m, f"l {m['replacement']} r") for m in mutants], f"l {operator} r")
        return f"(match ({by}({a}), {by}({b})) {{ (l, r) => {chosen} }})"

    def render_compound_assignment_expr(self, node):
        left, sign, right = (node.child_by_field_name(part) for part in ("left", "operator", "right"))
        if mutants := self.at(sign):
            a = self.render(left)
            chosen = self.choice([(m, f"{a} {m['replacement']} r") for m in mutants], f"{a} {sign.text.decode()} r")
            return f"match ({self.render(right)}) {{ r => {chosen} }}"

    def render_unary_expression(self, node):
        sign, operand = node.children
        if mutants := self.at(sign):
            chosen = self.choice([(m, "r") for m in mutants], f"{sign.text.decode()}r")
            return f"(match ({self.render(operand)}) {{ r => {chosen} }})"

    def render_match_arm(self, node):
        pattern = node.child_by_field_name("pattern")
        condition = pattern.child_by_field_name("condition")
        until_value = (node.start_byte, node.child_by_field_name("value").end_byte)
        deletions = self.at(node) or self.by_span.get(until_value, [])
        guards = self.at(condition) if condition else []
        if not deletions and not guards:
            return None
        bare_end = pattern.children[0].end_byte if condition else pattern.end_byte
        guard = f"({self.render(condition)})" if condition else "true"
        for m in guards + deletions:
            becomes_true = m["replacement"] == "true"
            guard = f"({self.is_chosen(m)} || {guard})" if becomes_true else f"(!{self.is_chosen(m)} && {guard})"
        bare = self.text[node.start_byte : bare_end].decode()
        return marked(guards + deletions, f"{bare} if {guard}") + self.unchanged(node, pattern.end_byte)

    def render_struct_expression(self, node):
        fields = node.child_by_field_name("body").named_children
        without = []
        for field in fields:
            comma = self.text.find(b",", field.end_byte)
            rest = self.text[node.start_byte : field.start_byte] + self.text[comma + 1 : node.end_byte]
            without += [(m, rest.decode()) for m in self.by_field.get(field.start_byte, [])]
        if without:
            return self.choice(without, self.unchanged(node, node.start_byte))
