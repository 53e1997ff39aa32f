"""A small terminal: runs commands on one, keeps what is on its screen with its colours, and draws it as SVG."""
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from html import escape

COLUMNS = 104
COLOURS = {30: "#45475a", 31: "#f38ba8", 32: "#a6e3a1", 33: "#f9e2af", 34: "#89b4fa", 35: "#cba6f7", 36: "#94e2d5", 37: "#cdd6f4"}
PLAIN = (None, False)


class Screen:
    """Lines of (character, (colour, is_bold))."""

    def __init__(self):
        self.lines = [[]]
        self.row = self.column = 0
        self.style = PLAIN

    def put(self, character):
        if self.column == COLUMNS:
            self.down()
            self.column = 0
        line = self.lines[self.row]
        line.extend([(" ", PLAIN)] * (self.column + 1 - len(line)))
        line[self.column] = (character, self.style)
        self.column += 1

    def down(self):
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append([])

    def control(self, numbers, kind):
        values = [int(number) if number.isdigit() else 0 for number in numbers.split(";")]
        if kind == "m":
            for value in values:
                colour, is_bold = self.style
                if value == 0:
                    self.style = PLAIN
                elif value == 1:
                    self.style = (colour, True)
                elif value in COLOURS or value - 60 in COLOURS:
                    self.style = (value if value in COLOURS else value - 60, is_bold)
                elif value == 39:
                    self.style = (None, is_bold)
        elif kind == "K":
            line = self.lines[self.row]
            del line[0 if values[0] == 2 else self.column:]
        elif kind == "A":
            self.row = max(0, self.row - max(1, values[0]))
        elif kind == "G":
            self.column = max(0, values[0] - 1)

    def write(self, text):
        at = 0
        while at < len(text):
            found = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])").match(text, at)
            if found:
                self.control(found[1], found[2])
                at = found.end()
                continue
            character = text[at]
            if character == "\n":
                self.down()
            elif character == "\r":
                self.column = 0
            elif character == "\b":
                self.column = max(0, self.column - 1)
            elif character >= " ":
                self.put(character)
            at += 1


def run(command, screen):
    own, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    process = subprocess.Popen(["bash", "-c", command], stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    said = b""
    while True:
        try:
            part = os.read(own, 65536)
        except OSError:
            break
        if not part:
            break
        said += part
    process.wait()
    os.close(own)
    screen.write(said.decode(errors="replace"))


def session(commands):
    screen = Screen()
    for command in commands:
        screen.style = (32, True)
        screen.write("$ ")
        screen.style = (None, True)
        screen.write(command)
        screen.style = PLAIN
        screen.write("\r\n")
        run(command, screen)
        if screen.column:
            screen.write("\r\n")
    while screen.lines and not screen.lines[-1]:
        screen.lines.pop()
    return screen.lines


def svg(lines):
    width, height, step = COLUMNS * 8.43 + 32, len(lines) * 19 + 56, 19
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}">',
        f'<title>A first session of sps</title><rect width="{width:.0f}" height="{height}" rx="9" fill="#1e1e2e"/>',
    ]
    for at, colour in enumerate(("#f38ba8", "#f9e2af", "#a6e3a1")):
        drawn.append(f'<circle cx="{20 + at * 20}" cy="18" r="6" fill="{colour}"/>')
    drawn.append('<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" fill="#cdd6f4" xml:space="preserve">')
    for row, line in enumerate(lines):
        spans, last = [], None
        for character, style in line:
            if style != last:
                spans.append([style, ""])
                last = style
            spans[-1][1] += character
        text = ""
        for (colour, is_bold), words in spans:
            look = (f' fill="{COLOURS[colour]}"' if colour else "") + (' font-weight="bold"' if is_bold else "")
            text += f"<tspan{look}>{escape(words)}</tspan>"
        if text:
            length = f' textLength="{len(line) * 8.43:.1f}" lengthAdjust="spacingAndGlyphs"'
            drawn.append(f'<text x="16" y="{50 + row * step}"{length}>{text}</text>')
    drawn.append("</g></svg>\n")
    return "\n".join(drawn)
