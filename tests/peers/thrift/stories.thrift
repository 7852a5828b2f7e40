// What the Thrift servers and clients of the tests say to each other.

enum Colour { RED = 1, GREEN = 2, ODD = -7 }

struct Point {
  1: i32 x,
  2: i32 y,
  3: optional string label,
}

struct Tree {
  1: string name,
  2: list<Tree> children,
}

// Every type, and field ids whose distance the compact protocol cannot write in one byte.
struct Everything {
  1: bool yes,
  2: bool no,
  3: i8 tiny,
  4: i16 small,
  5: i32 medium,
  6: i64 large,
  7: double real,
  8: string text,
  9: binary bytes,
  10: Colour colour,
  11: Point point,
  12: list<bool> bools,
  13: list<i64> numbers,
  14: list<list<string>> nested,
  15: set<string> names,
  16: map<string, Point> points,
  17: map<i32, map<i16, list<double>>> deep,
  18: optional string unset,
  19: list<Point> none,
  20: map<string, string> empty,
  300: Tree tree,
  301: bool last,
}

exception Refused {
  1: string why,
  2: i32 code,
}

exception Missing {
  1: string key,
}

service Stories {
  Everything echo(1: Everything everything),
  string make(1: i32 size),
  i32 measure(1: string text, 2: binary bytes),
  list<i32> count(1: i32 to),
  void nothing(),
  string refuse(1: string how) throws (1: Refused refused, 2: Missing missing),
  string crash(),
  oneway void note(1: string text),
  list<string> notes(1: string prefix),
  // Echoes after a moment of its own.
  string shuffle(1: string text),
  string slow(1: i32 ms, 2: string text),
  // The server's port.
  string where(),
  map<string, string> headers(),
  // Connections that this server took so far.
  i32 accepted(),
}

// What the servers do not know of.
service Newer extends Stories {
  string unheardOf(),
}

service Stock {
  string find(1: string text),
  string where(),
}
