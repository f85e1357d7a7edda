"use strict";

const SECONDS = 60; // that the chart shows
const $ = (selector, root = document) => root.querySelector(selector);
const path = (...parts) => new URL("/" + parts.map(encodeURIComponent).join("/"), location.origin);
let types = { toxics: {}, faults: [], when: {} };
const cards = new Map();

function unit(count) {
  for (const name of ["B", "kB", "MB", "GB"]) {
    if (count < 1000 || name === "GB") return `${name === "B" ? Math.round(count) : count.toFixed(1)} ${name}`;
    count /= 1000;
  }
}

function say(text) {
  $("#message").textContent = text;
}

async function ask(method, url, value) {
  say("");
  try {
    const answer = await fetch(url, {
      method, headers: { "X-Faultkit-Page": "1" }, body: value === undefined ? undefined : JSON.stringify(value),
    });
    if (answer.ok) return;
    const text = await answer.text();
    try { say(JSON.parse(text).error); } catch { say(text || `${method} ${url.pathname}: ${answer.status}`); }
  } catch (error) {
    say(`The server does not answer: ${error.message}`);
  }
}

// Only what has changed is touched, so that nobody loses the place where they type.
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function keyed(list, items, key, make, update) {
  const found = new Map([...list.children].map(child => [child.dataset.key, child]));
  items.forEach((item, place) => {
    const name = String(key(item));
    let child = found.get(name);
    found.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    if (list.children[place] !== child) list.insertBefore(child, list.children[place] || null);
    update(child, item);
  });
  found.forEach(child => child.remove());
}

function field(name, label, value) {
  const made = document.createElement("label"), input = document.createElement("input");
  made.append(label, input);
  Object.assign(input, { name, type: "number", step: "any", value });
  return made;
}

function units(type) {
  return Object.entries(types.toxics[type] || {}).map(([name, of]) => [name, `${name}, ${of}`]);
}

function numbers(form) {
  const told = {};
  for (const input of form.querySelectorAll("input[type=number]")) {
    if (input.value !== "") told[input.name] = Number(input.value);
  }
  return told;
}

function makeToxic(proxy, toxic) {
  const row = $("#toxic").content.cloneNode(true).firstElementChild, form = $("form", row), on = $(".on", row);
  const at = path("proxies", proxy.name, "toxics", toxic.name);
  put($(".name", row), toxic.name);
  on.setAttribute("aria-label", `${toxic.name} of ${proxy.name}`);
  const known = { ...types.when, ...types.toxics[toxic.type] };
  for (const name of new Set([...Object.keys(types.toxics[toxic.type] || {}), ...Object.keys(toxic.attributes)])) {
    form.append(field(name, `${name}, ${known[name]}`, toxic.attributes[name] ?? 0));
  }
  form.append(field("toxicity", "toxicity, 0 to 1", toxic.toxicity));
  const set = document.createElement("button");
  set.textContent = "Set";
  set.setAttribute("aria-label", `Set ${toxic.name}`);
  form.append(set);
  $(".remove", row).setAttribute("aria-label", `Remove ${toxic.name}`);
  row.toxicity = toxic.toxicity || 1;
  // Off is a toxicity of 0: it keeps its place in the chain, and the API's clients see it too.
  on.addEventListener("change", () => ask("PATCH", at, { toxicity: on.checked ? row.toxicity : 0 }));
  form.addEventListener("submit", event => {
    event.preventDefault();
    const { toxicity, ...attributes } = numbers(form);
    delete form.dataset.dirty;
    ask("PATCH", at, { attributes, toxicity });
  });
  form.addEventListener("input", () => { form.dataset.dirty = "1"; });
  $(".remove", row).addEventListener("click", () => ask("DELETE", at));
  return row;
}

function updateToxic(row, toxic) {
  const form = $("form", row);
  if (toxic.toxicity) row.toxicity = toxic.toxicity;
  $(".on", row).checked = toxic.toxicity !== 0;
  if (form.dataset.dirty || form.contains(document.activeElement)) return;
  for (const input of form.querySelectorAll("input")) {
    const value = String(input.name === "toxicity" ? toxic.toxicity : toxic.attributes[input.name] ?? 0);
    if (input.value !== value) input.value = value;
  }
}

function makeProxy(proxy) {
  const card = $("#proxy").content.cloneNode(true).firstElementChild, at = path("proxies", proxy.name);
  cards.set(proxy.name, { samples: [] });
  put($("h2", card), proxy.name);
  const enabled = $(".enabled", card);
  enabled.setAttribute("aria-label", `${proxy.name} enabled`);
  enabled.addEventListener("change", () => ask("PATCH", at, { enabled: enabled.checked }));
  for (const button of card.querySelectorAll("[data-do]")) {
    const what = button.dataset.do;
    button.setAttribute("aria-label", `${button.textContent} ${proxy.name}`);
    button.addEventListener("click", () =>
      what === "delete" ? ask("DELETE", at) : ask("POST", path("ui", "proxies", proxy.name, what)));
  }
  const add = $(".add", card), type = add.elements.type;
  const group = (label, names) => {
    const made = document.createElement("optgroup");
    made.label = label;
    made.append(...names.map(name => new Option(name)));
    return made;
  };
  type.append(group("toxics", Object.keys(types.toxics)), group("faults", types.faults));
  type.value = "latency";
  const when = new Option("at once", "");
  const moment = document.createElement("select");
  moment.append(when, ...Object.keys(types.when).map(name => new Option(name, name)));
  moment.name = "moment";
  const choose = () => {
    const label = document.createElement("label");
    label.append("Sets in", moment);
    $(".fields", add).replaceChildren(...units(type.value).map(([name, text]) => field(name, text, 0)), label);
    if (moment.value) $(".fields", add).append(field(moment.value, `${moment.value}, ${types.when[moment.value]}`, 1));
  };
  type.addEventListener("change", choose);
  moment.addEventListener("change", () => { choose(); moment.focus(); });
  choose();
  add.addEventListener("submit", event => {
    event.preventDefault();
    ask("POST", path("proxies", proxy.name, "toxics"), {
      type: type.value, stream: add.elements.stream.value, attributes: numbers(add),
    });
  });
  return card;
}

function chart(card, proxy, at) {
  const { samples } = cards.get(proxy.name), last = samples[samples.length - 1];
  const totals = [proxy.passed.upstream[1], proxy.passed.downstream[1]];
  const span = last ? Math.max(at - last.at, 0.001) : 1;
  const rates = totals.map((total, number) => last ? Math.max(0, (total - last.totals[number]) / span) : 0);
  samples.push({ at, totals, rates });
  while (samples[0].at < at - SECONDS) samples.shift();
  const top = Math.max(1000, ...samples.flatMap(sample => sample.rates));
  ["up", "down"].forEach((name, number) => {
    const points = samples.map(sample =>
      `${(240 * (1 - (at - sample.at) / SECONDS)).toFixed(1)},${(58 - 56 * sample.rates[number] / top).toFixed(1)}`);
    $(`polyline.${name}`, card).setAttribute("points", points.join(" "));
    put($(`.key.${name} b`, card), `${unit(rates[number])}/s`);
  });
  put($(".top", card), `top ${unit(top)}/s, ${SECONDS} s`);
  $("svg", card).setAttribute("aria-label", `Throughput: to the service ${unit(rates[0])}/s, to the client ${unit(rates[1])}/s`);
}

const COLUMNS = ["", "Client", "State", "From client", "To service", "From service", "To client", "Met"];

function makeConnection(proxy, one) {
  const row = document.createElement("tr");
  for (const label of COLUMNS) {
    const cell = document.createElement("td");
    if (label) cell.dataset.label = label;
    row.append(cell);
  }
  const cell = document.createElement("td"), cut = document.createElement("button");
  cut.type = "button";
  cut.textContent = "Cut";
  cut.setAttribute("aria-label", `Cut connection ${one.number} of ${proxy.name}`);
  const at = path("ui", "proxies", proxy.name, "cut");
  at.searchParams.set("connection", one.number);
  cut.addEventListener("click", () => ask("POST", at));
  cell.append(cut);
  row.append(cell);
  return row;
}

function updateConnection(row, one) {
  const cells = [
    `#${one.number}`, one.peer, one.state, unit(one.client[0]), unit(one.upstream[1]), unit(one.upstream[0]),
    unit(one.client[1]), one.met.join(", ") || "–",
  ];
  cells.forEach((text, place) => put(row.children[place], text));
}

function updateProxy(card, proxy, at) {
  $(".enabled", card).checked = proxy.enabled;
  put($(".way", card), `${proxy.listen} → ${proxy.upstream}`);
  chart(card, proxy, at);
  keyed($(".toxics", card), proxy.toxics, toxic => `${toxic.name} ${Object.keys(toxic.attributes)} ${toxic.type}`,
    toxic => makeToxic(proxy, toxic), updateToxic);
  const shown = proxy.live > proxy.connections.length ? `, the last ${proxy.connections.length} shown` : "";
  put($(".count", card), `${proxy.live} live of ${proxy.accepted}${shown}`);
  keyed($("tbody", card), proxy.connections, one => one.number, one => makeConnection(proxy, one), updateConnection);
}

function show(state) {
  keyed($("#proxies"), state.proxies, proxy => proxy.name, makeProxy, (card, proxy) => updateProxy(card, proxy, state.at));
  $("#none").hidden = state.proxies.length > 0;
  $("#no-resets").hidden = state.resets.length > 0;
  keyed($("#resets"), state.resets, one => `${one.at} ${one.proxy} ${one.connection}`, one => {
    const line = document.createElement("li"), time = document.createElement("time");
    const when = new Date(one.at * 1000);
    time.dateTime = when.toISOString();
    time.textContent = when.toLocaleTimeString();
    line.append(time, `${one.proxy} #${one.connection}: ${one.who}`);
    return line;
  }, () => {});
}

$("#reset").addEventListener("click", () => ask("POST", path("reset")));
$("#new form").addEventListener("submit", event => {
  event.preventDefault();
  const form = event.target;
  ask("POST", path("proxies"), Object.fromEntries(new FormData(form))).then(() => { if (!$("#message").textContent) form.reset(); });
});

const events = new EventSource(path("ui", "events"));
const link = (text, lost) => { put($("#link"), text); $("#link").classList.toggle("lost", lost); };
events.addEventListener("types", event => { types = JSON.parse(event.data).types; });
events.addEventListener("message", event => { link("live", false); show(JSON.parse(event.data)); });
events.addEventListener("error", () => link("no connection to the server: trying again", true));
