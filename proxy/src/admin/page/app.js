// The admin page. It asks the API of the server that it came from and nothing else, and
// puts what it hears into the page as text, never as markup.
"use strict";

const POLL = 1000;
const POINTS = 120;
const TAP_ROWS = 200;
const COLOURS = 12;

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null).map((child) => child instanceof Node ? child : String(child)));
  return element;
}

function drawn(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text != null) element.textContent = text;
  return element;
}

async function ask(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", ...options });
  const type = response.headers.get("content-type") || "";
  const body = type.startsWith("application/json") ? await response.json() : await response.text();
  if (!response.ok) throw new Error(body.error || `${response.status} ${response.statusText}`);
  return body;
}

const post = (path, method = "POST", body) => ask(path, {
  method,
  headers: { "x-polyport": "1", ...(body ? { "content-type": "application/json" } : {}) },
  body: body && JSON.stringify(body),
});

// ---- how numbers are written

function count(value) {
  if (value == null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return (value / 1e9).toFixed(2) + " G";
  if (size >= 1e6) return (value / 1e6).toFixed(2) + " M";
  if (size >= 1e4) return (value / 1e3).toFixed(1) + " k";
  if (size >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value.toFixed(1);
}

function time(us) {
  if (us == null) return "–";
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1000).toFixed(us < 1e4 ? 1 : 0)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

function lasting(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d`;
}

// What lies below `share` of a histogram, taken as even within a bucket.
function quantile(bounds, counts, share) {
  const all = counts.reduce((sum, one) => sum + one, 0);
  if (!all) return null;
  let below = 0;
  for (let at = 0; at < counts.length; at++) {
    if (below + counts[at] >= share * all) {
      const low = at ? bounds[at - 1] : 0;
      if (at >= bounds.length) return low;
      return low + (bounds[at] - low) * ((share * all - below) / Math.max(counts[at], 1));
    }
    below += counts[at];
  }
  return bounds[bounds.length - 1];
}

// ---- what is remembered between two polls

const known = { info: null, last: null, rates: new Map(), series: new Map(), slow: new Map(), errors: [], latency: [[], [], []], rows: new Map() };
const colours = new Map();

function colour(name) {
  if (!colours.has(name)) colours.set(name, `k${colours.size % COLOURS}`);
  return colours.get(name);
}

const minus = (now, had) => now.map((value, at) => Math.max(0, value - ((had && had[at]) || 0)));

function take(figures) {
  const had = known.last;
  known.last = figures;
  if (!had || figures.now_ms <= had.now_ms) {
    // The first answer, or another process's.
    known.series.clear();
    known.errors = [];
    known.latency = [[], [], []];
    return;
  }
  const seconds = (figures.now_ms - had.now_ms) / 1000;
  const before = (list, name) => (list || []).find((one) => one.name === name);
  const rate = (now, was) => Math.max(0, now - (was || 0)) / seconds;
  const buckets = figures.bounds_us.map(() => 0).concat(0);
  for (const dialect of figures.dialects) {
    const was = before(had.dialects, dialect.name);
    if (!known.series.has(dialect.name)) known.series.set(dialect.name, Array(POINTS).fill(0));
    const series = known.series.get(dialect.name);
    series.push(rate(dialect.requests, was && was.requests));
    series.splice(0, series.length - POINTS);
    const recent = minus(dialect.latency, was && was.latency);
    known.slow.set(dialect.name, quantile(figures.bounds_us, recent.some(Boolean) ? recent : dialect.latency, 0.99));
  }
  known.rates.clear();
  for (const route of figures.routes) {
    const was = before(had.routes, route.name);
    const recent = minus(route.latency, was && was.latency);
    recent.forEach((value, at) => { buckets[at] += value; });
    // A quiet route's latency is that of all it has seen.
    const counts = recent.some(Boolean) ? recent : route.latency;
    known.rates.set(route.name, {
      requests: rate(route.requests, was && was.requests),
      errors: rate(route.errors, was && was.errors),
      hits: route.requests,
      p50: quantile(figures.bounds_us, counts, 0.5),
      p99: quantile(figures.bounds_us, counts, 0.99),
    });
  }
  const push = (list, value) => { list.push(value); list.splice(0, list.length - POINTS); };
  [0.5, 0.9, 0.99].forEach((share, at) => push(known.latency[at], quantile(figures.bounds_us, buckets, share)));
  known.counters = {};
  for (const [name, value] of Object.entries(figures.counters)) known.counters[name] = rate(value, had.counters[name]);
  push(known.errors, known.counters.requests_local_errors_total + (known.counters.session_messages_refused_total || 0));
}

// ---- charts

// So many steps of 1, 2 or 5 times a power of ten, to above the value.
function ceiling(value, least, steps) {
  const step = Math.max(value, least) / steps;
  const power = 10 ** Math.floor(Math.log10(step));
  return steps * [1, 2, 5, 10].map((times) => times * power).find((nice) => nice >= step * 0.999);
}

function frame(svg, most, least, label) {
  const box = svg.getBoundingClientRect();
  const steps = box.height < 200 ? 2 : 4;
  const top = ceiling(most, least, steps);
  const [width, height, left, bottom] = [box.width || 600, box.height || 200, 52, 18];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  const x = (at, points) => left + (width - left) * (at / Math.max(points - 1, 1));
  const y = (value) => 6 + (height - bottom - 6) * (1 - value / top);
  for (let step = 0; step <= steps; step++) {
    const value = top * step / steps;
    svg.append(drawn("line", { x1: left, x2: width, y1: y(value), y2: y(value), class: "rule" }));
    svg.append(drawn("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, label(value)));
  }
  for (const [share, text] of [[0, "2 min ago"], [0.5, "1 min"], [1, "now"]]) {
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    svg.append(drawn("text", { x: left + (width - left) * share, y: height - 3, "text-anchor": anchor }, text));
  }
  return { x, y };
}

function stacked(svg, all) {
  const sums = Array.from({ length: POINTS }, (_, at) => all.reduce((sum, [, series]) => sum + series[at], 0));
  const { x, y } = frame(svg, Math.max(...sums), 4, count);
  let base = Array(POINTS).fill(0);
  for (const [name, series] of all) {
    const upper = base.map((low, at) => low + series[at]);
    const there = upper.map((value, at) => `${x(at, POINTS).toFixed(1)},${y(value).toFixed(1)}`);
    const back = base.map((value, at) => `${x(at, POINTS).toFixed(1)},${y(value).toFixed(1)}`).reverse();
    svg.append(drawn("polygon", { points: there.concat(back).join(" "), class: `area ${colour(name)}` }));
    base = upper;
  }
}

function lines(svg, all, least, label) {
  const most = Math.max(0, ...all.flatMap(([, series]) => series.filter((value) => value != null)));
  const { x, y } = frame(svg, most, least, label);
  for (const [name, series] of all) {
    let path = "";
    const first = POINTS - series.length;
    series.forEach((value, at) => {
      if (value == null) return;
      const joined = at > 0 && series[at - 1] != null;
      path += `${joined ? "L" : "M"}${x(first + at, POINTS).toFixed(1)} ${y(value).toFixed(1)}`;
    });
    if (path) {
      const line = drawn("path", { d: path, class: `line ${name}` });
      // The class also fills, which a line must not be.
      line.style.fill = "none";
      svg.append(line);
    }
  }
}

function legend(list, entries) {
  list.replaceChildren(...entries.map(([name, kind, value, more]) =>
    make("li", { "data-name": name }, make("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), name, make("b", {}, value), more ? make("span", { class: "quiet" }, more) : null)));
}

// ---- sections

function overview() {
  const figures = known.last;
  if (!figures) return;
  const rates = known.counters || {};
  const requests = rates.requests_total == null ? null : rates.requests_total + (rates.session_messages_total || 0);
  const errors = known.errors.at(-1);
  const p99 = known.latency[2].at(-1);
  const tiles = [
    ["Messages", count(requests), "/s"],
    ["Errors", count(errors), "/s", errors > 0],
    ["Latency p99", time(p99), ""],
    ["In flight", count(figures.requests_active), figures.requests_pending ? `${count(figures.requests_pending)} waiting` : ""],
    ["Clients", count(figures.downstream_connections_active), "connections"],
    ["Endpoints", count(figures.upstream_connections_active), "connections"],
  ];
  $("tiles").replaceChildren(...tiles.map(([name, value, unit, bad]) =>
    make("div", { class: bad ? "bad" : null }, make("dt", {}, name), make("dd", {}, value, unit ? make("small", {}, unit) : null))));
  const all = [...known.series.entries()].sort(([a], [b]) => a < b ? -1 : 1);
  all.forEach(([name]) => colour(name));
  stacked($("mix"), all);
  legend($("legend"), all.map(([name, series]) => [name, colour(name), `${count(series.at(-1))}/s`, `p99 ${time(known.slow.get(name))}`]));
  const shares = [["p50", "k0"], ["p90", "k1"], ["p99", "k2"]];
  lines($("latency"), shares.map(([, kind], at) => [kind, known.latency[at]]), 1000, time);
  legend($("latency-legend"), shares.map(([name, kind], at) => [name, kind, time(known.latency[at].at(-1))]));
  lines($("errors"), [["kbad", known.errors]], 1, count);
  legend($("errors-legend"), [["denied, unrouted, failed", "kbad", `${count(errors)}/s`]]);
  const busy = figures.routes.map((route) => ({ name: route.name || "no route", ...known.rates.get(route.name) }))
    .sort((a, b) => (b.requests || 0) - (a.requests || 0) || (b.hits || 0) - (a.hits || 0)).slice(0, 6);
  const most = Math.max(1e-9, ...busy.map((route) => route.requests || 0));
  $("busy").replaceChildren(...busy.map((route) => make("li", {},
    make("span", { class: "share" }, make("span", {}, route.name), make("meter", { min: 0, max: most, value: route.requests || 0, "aria-label": `${route.name}: messages a second` })),
    make("b", {}, `${count(route.requests || 0)}/s`), make("span", { class: "quiet" }, route.p99 == null ? `${count(route.hits)} hits` : time(route.p99)))));
}

const wanted = (id, text) => text.toLowerCase().includes($(id).value.trim().toLowerCase());

function cell(name, text, kind) {
  return make("td", { class: kind, "data-name": name }, ...(Array.isArray(text) ? text : [text]));
}

// Rows keep their places, so that selections and focus outlast a poll.
function fill(body, rows, empty) {
  if (!rows.length) {
    body.replaceChildren(make("tr", {}, make("td", { colspan: "9", class: "empty full" }, empty)));
    return;
  }
  body.querySelectorAll("td.empty").forEach((none) => none.parentElement.remove());
  rows.forEach(({ key, cells }, at) => {
    let row = body.children[at];
    if (!row || row.dataset.key !== key) {
      const found = [...body.children].find((one) => one.dataset.key === key);
      const fresh = found || make("tr", { "data-key": key });
      body.insertBefore(fresh, row || null);
      row = fresh;
    }
    const text = cells.map((one) => one.outerHTML).join();
    if (known.rows.get(row) !== text) {
      known.rows.set(row, text);
      row.replaceChildren(...cells);
    }
  });
  while (body.children.length > rows.length) body.lastElementChild.remove();
  if (known.rows.size > 5000) known.rows.clear();
}

const proto = (name) => make("span", { class: "tag proto" }, make("span", { class: `swatch ${colour(name)}`, "aria-hidden": "true" }), name);

function facts(pairs, joint = "=") {
  return make("div", { class: "facts" }, ...pairs.map(([key, value]) => make("span", {}, make("i", {}, key + joint), value)));
}

async function routes() {
  const { routes: all } = await ask("/api/routes");
  const rows = all.map((route) => {
    const to = route.does === "forward"
      ? route.targets.map((target) => route.targets.length > 1 ? `${target.cluster} ${target.percent} %` : target.cluster).join(", ")
      : route.does === "deny" ? "denied" : "answered here";
    const rate = known.rates.get(route.name) || {};
    const when = route.match.map((asked) => [asked.key, asked.matcher]);
    return {
      key: route.name,
      text: `${route.name} ${when.flat().join(" ")} ${to}`,
      cells: [
        cell("", route.name, "name full"),
        cell("", when.length ? facts(when, " ") : make("span", { class: "quiet" }, "everything"), "full"),
        cell("to", to),
        cell("/s", count(rate.requests || 0), "n"),
        cell("errors/s", count(rate.errors || 0), "n"),
        cell("hits", count(route.requests), "n"),
        cell("p50", time(rate.p50), "n"),
        cell("p99", time(rate.p99), "n"),
      ],
    };
  }).filter((row) => wanted("routes-filter", row.text));
  $("routes-count").textContent = `${rows.length} of ${all.length}, in the order in which they are asked`;
  fill($("routes-rows"), rows.slice(0, 500), "No route is like that.");
}

function health(endpoint) {
  if (endpoint.drained) return make("span", { class: "tag warn" }, "drained");
  if (endpoint.ejected) return make("span", { class: "tag bad" }, "ejected");
  if (!endpoint.usable) return make("span", { class: "tag bad" }, "failing checks");
  return make("span", { class: "tag good" }, "usable");
}

async function clusters() {
  const { clusters: all } = await ask("/api/clusters");
  const write = known.info && known.info.write;
  $("clusters-note").textContent = write ? "" : "read only: draining needs write = true in [admin]";
  const list = $("clusters-list");
  const shown = all.filter((cluster) => wanted("clusters-filter", JSON.stringify(cluster)));
  for (const card of [...list.children]) {
    if (!shown.some((cluster) => cluster.name === card.dataset.key)) card.remove();
  }
  if (!shown.length) list.replaceChildren(make("p", { class: "card empty" }, all.length ? "No cluster is like that." : "There are no clusters."));
  for (const cluster of shown) {
    let card = [...list.children].find((one) => one.dataset.key === cluster.name);
    if (!card) {
      card = make("div", { class: "card", "data-key": cluster.name },
        make("h2", {}),
        make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Endpoints of ${cluster.name}` },
          make("table", { class: "rows endpoints" },
            make("thead", {}, make("tr", {}, ...["Endpoint", "Health", "Labels"].map((name) => make("th", { scope: "col" }, name)),
              ...["Weight", "In flight", "Sessions", "Connections", "Waiting", "Ejections", "Failed checks"].map((name) => make("th", { scope: "col", class: "n" }, name)),
              make("th", { scope: "col" }, write ? "Drain" : ""))),
            make("tbody"))));
      list.append(card);
    }
    const usable = cluster.endpoints.filter((one) => one.usable && !one.drained).length;
    const traits = ["tls", "http2", "checks", "outlier", "breaker"].filter((name) => cluster[name]);
    const head = [cluster.name, make("span", { class: `tag ${usable === cluster.endpoints.length ? "good" : usable ? "warn" : "bad"}` }, `${usable} of ${cluster.endpoints.length} usable`),
      ...traits.map((name) => make("span", { class: "tag" }, name))];
    card.querySelector("h2").replaceChildren(...head.map((one) => one instanceof Node ? one : document.createTextNode(one)));
    fill(card.querySelector("tbody"), cluster.endpoints.map((one) => {
      const labels = Object.entries(one.labels).map(([name, value]) => `${name}=${value}`);
      if (one.zone) labels.push(`zone=${one.zone}`);
      if (one.priority) labels.push(`priority=${one.priority}`);
      const button = write ? make("button", { type: "button", "data-cluster": cluster.name, "data-address": one.address, "data-do": one.drained ? "undrain" : "drain" }, one.drained ? "Take back" : "Drain") : null;
      return {
        key: one.address,
        cells: [
          cell("", one.address.startsWith(one.host) || one.address.startsWith(`[${one.host}]`) ? one.address : `${one.host} (${one.address})`, "mono full"),
          cell("", health(one)),
          cell("", labels.join(" "), "full"),
          cell("weight", count(one.weight), "n"), cell("in flight", count(one.in_flight), "n"),
          cell("sessions", count(one.sessions), "n"), cell("connections", count(one.connections), "n"),
          cell("waiting", count(one.waiting), "n"), cell("ejections", count(one.ejections), "n"),
          cell("failed checks", count(one.checks_failed), "n"), make("td", { class: "full" }, button),
        ],
      };
    }), "It has no endpoints.");
  }
}

async function connections() {
  const { open, connections: all } = await ask("/api/connections?limit=500");
  const rows = all.map((one) => {
    const traits = [one.tls && "TLS", one.stream && "stream", one.session && "session", one.held && "own upstream", one.closing && "closing"].filter(Boolean);
    const name = one.dialect || (one.session ? "tcp" : "not known yet");
    return {
      key: `${one.worker} ${one.id}`,
      text: `${one.source} ${name} ${one.listener} ${traits.join(" ")}`,
      cells: [cell("", one.source, "mono"), cell("", proto(name)), cell("listener", one.listener), cell("in flight", count(one.in_flight), "n"),
        cell("age", lasting(one.age_ms), "n"), cell("silent", lasting(one.idle_ms), "n"), cell("", traits.map((trait) => make("span", { class: "tag" }, trait)))],
    };
  }).filter((row) => wanted("connections-filter", row.text));
  $("connections-count").textContent = `${rows.length} of ${open} open`;
  fill($("connections-rows"), rows, "No connection is like that.");
}

// ---- the tap

const tap = { source: null };

function stopTap(why) {
  if (tap.source) tap.source.close();
  tap.source = null;
  $("tap-start").textContent = "Start";
  if (why) $("tap-count").textContent += ` · ${why}`;
}

async function startTap() {
  $("tap-error").hidden = true;
  const query = new URLSearchParams({ match: $("tap-match").value, route: $("tap-route").value, seconds: "600" });
  const path = `/api/tap?${query}`;
  // An event source does not tell what was wrong, so that is asked first.
  const probe = new AbortController();
  try {
    const response = await fetch(path, { signal: probe.signal });
    if (!response.ok) throw new Error((await response.json()).error);
    probe.abort();
  } catch (error) {
    $("tap-error").textContent = error.message;
    $("tap-error").hidden = false;
    return;
  }
  tap.source = new EventSource(path);
  $("tap-start").textContent = "Stop";
  $("tap-count").textContent = "waiting for messages";
  tap.source.addEventListener("message", (event) => show(JSON.parse(event.data)));
  tap.source.addEventListener("status", (event) => {
    const { matched, dropped } = JSON.parse(event.data);
    $("tap-count").textContent = `${count(matched)} matched` + (dropped ? `, ${count(dropped)} of them too fast to show` : "");
  });
  tap.source.addEventListener("end", () => stopTap("its time is over"));
  tap.source.addEventListener("error", () => { if (tap.source) stopTap("the connection was lost"); });
}

function show(message) {
  const at = new Date(message.at);
  const clock = at.toLocaleTimeString("en-GB") + "." + String(at.getMilliseconds()).padStart(3, "0");
  const went = message.fault ? make("span", { class: "tag bad" }, message.fault)
    : message.cluster ? `${message.cluster} ${message.endpoint || ""}` : make("span", { class: "quiet" }, "its session, or answered here");
  const said = Object.entries(message.facts).filter(([key]) => key !== "protocol" && key !== "dialect");
  const row = make("tr", {}, cell("", clock, "mono nowrap"), cell("", proto(message.dialect)), cell("", message.route || make("span", { class: "quiet" }, "no route")),
    cell("", went), cell("", facts(said), "full"));
  const body = $("tap-rows");
  body.prepend(row);
  while (body.children.length > TAP_ROWS) body.lastElementChild.remove();
}

// ---- explain

async function explain() {
  const lines = $("explain-facts").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const box = $("explain-answer");
  $("explain-error").hidden = true;
  try {
    const { decision, text } = await post("/api/explain", "POST", { facts: lines });
    const verdict = decision.unasked ? decision.unasked
      : decision.route == null ? (decision.denied ? "denied: no route matches" : "no route matches")
      : decision.denied ? `denied by “${decision.route}”`
      : decision.answered ? `answered by “${decision.route}” with status ${decision.answered}`
      : `takes “${decision.route}”`;
    box.replaceChildren(make("div", { class: "card" }, make("p", { class: "verdict" }, verdict), make("pre", {}, text)));
  } catch (error) {
    box.replaceChildren();
    $("explain-error").textContent = error.message;
    $("explain-error").hidden = false;
  }
}

// ---- config

const LEVELS = ["error", "warn", "info", "debug", "trace"];

async function config() {
  if (known.config) return;
  const answer = await ask("/api/config");
  known.config = answer;
  $("config-path").textContent = answer.path;
  $("config-text").textContent = answer.text;
  level((await ask("/api/log-level")).level);
}

function level(current) {
  const levels = LEVELS.includes(current) ? LEVELS : [current, ...LEVELS];
  $("log-level").replaceChildren(...levels.map((one) => make("option", { value: one, selected: one === current }, one)));
}

async function change(work, done) {
  const note = $("config-note");
  try {
    note.textContent = done(await work());
  } catch (error) {
    note.textContent = error.message;
  }
}

// ---- tabs

const SECTIONS = { overview: async () => overview(), routes, clusters, connections, tap: null, explain: null, config };
let current = "overview";

// Where the tabs are wider than the screen, the open one is to be seen.
function toTab() {
  const [nav, tab] = [document.querySelector("nav"), $(`tab-${current}`)];
  nav.scrollLeft = tab.offsetLeft - nav.offsetLeft - (nav.clientWidth - tab.clientWidth) / 2;
}

function open(name, focus) {
  if (!(name in SECTIONS)) name = "overview";
  current = name;
  for (const other of Object.keys(SECTIONS)) {
    const tab = $(`tab-${other}`);
    tab.setAttribute("aria-selected", String(other === name));
    tab.tabIndex = other === name ? 0 : -1;
    $(other).hidden = other !== name;
  }
  if (focus) $(`tab-${name}`).focus();
  toTab();
  scrollTo(0, 0);
  // Not a section's id, to which a browser would scroll.
  if (location.hash !== `#/${name}`) history.replaceState(null, "", `#/${name}`);
  draw();
}

async function draw() {
  const section = SECTIONS[current];
  try {
    if (section && known.info) await section();
  } catch (error) {
    lost(error);
  }
}

// ---- polling

function lost(error) {
  $("state").className = "lost";
  $("state-text").textContent = `no answer: ${error.message}`;
}

function about(info) {
  const { done, error } = info.reloads;
  const reload = error ? " · the latest reload was refused" : done ? ` · ${done} reload${done === 1 ? "" : "s"}` : "";
  $("about").textContent = `${info.version} · pid ${info.pid} · up ${lasting(info.uptime_ms)} · ${info.workers} worker${info.workers === 1 ? "" : "s"} · ${info.config}${reload}`;
  const keys = info.keys.filter((key) => key !== "protocol" && key !== "dialect").join(", ");
  $("tap-keys").textContent = `Decoded, and so to be seen: ${["protocol", "dialect", keys].filter(Boolean).join(", ")}.`;
  $("explain-keys").textContent = `Rules ask for ${["protocol", keys].filter(Boolean).join(", ")}.`;
  $("reload").hidden = !info.write;
  $("log-level").disabled = !info.write;
}

async function names() {
  const { routes: all } = await ask("/api/routes");
  const select = $("tap-route");
  const chosen = select.value;
  select.replaceChildren(make("option", { value: "" }, "any"), ...all.slice(0, 1000).map((route) => make("option", { value: route.name }, route.name)));
  select.value = chosen;
}

let turn = 0;
let busy = false;

async function poll() {
  if (document.hidden || busy) return;
  busy = true;
  try {
    if (turn % 10 === 0) {
      const info = await ask("/api/info");
      if (!known.info || known.info.routes !== info.routes || known.info.reloads.last !== info.reloads.last || known.info.pid !== info.pid) {
        known.config = null;
        await names();
      }
      known.info = info;
      about(info);
    }
    turn++;
    take(await ask("/api/figures"));
    $("state").className = "live";
    $("state-text").textContent = "live";
    await draw();
  } catch (error) {
    turn = 0;
    lost(error);
  } finally {
    busy = false;
  }
}

function begin() {
  const tabs = Object.keys(SECTIONS);
  tabs.forEach((name, at) => {
    const tab = $(`tab-${name}`);
    tab.addEventListener("click", () => open(name));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, Home: -at, End: tabs.length - 1 - at }[event.key];
      if (step == null) return;
      event.preventDefault();
      open(tabs[(at + step + tabs.length) % tabs.length], true);
    });
  });
  for (const name of ["routes", "clusters", "connections"]) $(`${name}-filter`).addEventListener("input", draw);
  $("tap-form").addEventListener("submit", (event) => { event.preventDefault(); if (tap.source) stopTap("stopped"); else startTap(); });
  $("tap-clear").addEventListener("click", () => $("tap-rows").replaceChildren());
  $("explain-form").addEventListener("submit", (event) => { event.preventDefault(); explain(); });
  $("clusters-list").addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-do]");
    if (!button) return;
    button.disabled = true;
    try {
      await post(`/api/clusters/${encodeURIComponent(button.dataset.cluster)}/endpoints/${encodeURIComponent(button.dataset.address)}/${button.dataset.do}`);
    } catch (error) {
      $("clusters-note").textContent = error.message;
    }
    draw();
  });
  $("log-level").addEventListener("change", () => change(() => post("/api/log-level", "PUT", { level: $("log-level").value }), (answer) => `the log now says: ${answer.level}`));
  $("reload").addEventListener("click", () => change(() => post("/api/reload"), (answer) => { known.config = null; turn = 0; return ["reloaded", ...answer.changes.lines, ...answer.changes.later].join("\n"); }));
  window.addEventListener("hashchange", () => open(location.hash.slice(2)));
  window.addEventListener("resize", () => { draw(); toTab(); });
  document.addEventListener("visibilitychange", poll);
  open(location.hash.slice(2) || "overview");
  poll();
  setInterval(poll, POLL);
}

begin();
