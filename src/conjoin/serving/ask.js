// The page at "/": asks the server that it came from, and nobody else. What is shown is set as text,
// never as markup.
"use strict";
const by = (id) => document.getElementById(id);
const MAX_SHOWN_ROWS = 200;
const ROWS_AT_ONCE = 500;
const NATS_OF_FULL_HEAT = 7;
const LOG_HALF = Math.log(0.5);  // of a piece that is no surprise above it
const MAX_PIECES = 8;
let key = "";
let turns = [];
let running = null;
let hasTurns = true;  // whether the model has learned who speaks; else each message stands by itself
let promised = false;  // whether the model answers, so that errors can be promised

function made(name, text, kind) {
  const out = document.createElement(name);
  if (text !== undefined) out.textContent = text;
  if (kind) out.className = kind;
  return out;
}

function headers() {
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function told(answer) {
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Error((body.error && body.error.message) || `The server answers ${answer.status}.`);
}

async function asked(path, body) {
  const answer = await fetch(path, { method: "POST", headers: headers(), body: JSON.stringify(body) });
  return (await told(answer)).json();
}

function trouble(error) {
  by("trouble").textContent = error ? error.message : "";
}

function number(value, digits = 2) {
  return value === null || value === undefined ? "" : Number(value).toPrecision(digits);
}

function badge(verdict) {
  return made("span", verdict || "no verdict", `verdict ${verdict || ""}`);
}

function energyWords(energy) {
  if (!energy) return "";
  const each = energy.joules_per_token ? `, ${number(energy.joules_per_token)} a token` : "";
  return `${number(energy.joules)} J (${number(energy.low)} to ${number(energy.high)})${each}, ` +
    `${number(energy.brain_seconds)} s of a brain`;
}

// ------------------------------------------------------------------------------------ texts

function piece(token) {
  const out = made("span", token.token);
  const heat = Math.min(1, -token.logprob / NATS_OF_FULL_HEAT);
  out.style.backgroundColor = `rgba(var(--heat), ${(0.55 * heat).toFixed(3)})`;
  out.title = `log p ${token.logprob.toFixed(2)}`;
  return out;
}

function listOf(tokens) {
  const most = tokens.filter((one) => one.token && one.logprob < LOG_HALF);
  most.sort((a, b) => a.logprob - b.logprob).splice(MAX_PIECES);
  if (!most.length) return "";
  const box = made("details");
  box.append(made("summary", "The most surprising pieces"));
  const list = made("ol");
  for (const one of most) {
    list.append(made("li", `${JSON.stringify(one.token)}: p = ${number(Math.exp(one.logprob))}`));
  }
  box.append(list);
  return box;
}

function finished(place, state) {
  const about = state.about || {};
  const line = made("p", undefined, "worth");
  line.append(badge(about.verdict));
  const parts = [];
  if (about.familiarity !== null && about.familiarity !== undefined) parts.push(`familiarity ${number(about.familiarity, 3)}`);
  if (about.log_prob !== null && about.log_prob !== undefined) parts.push(`log p ${about.log_prob.toFixed(2)} nats`);
  if (about.reason && !state.text.includes(about.reason)) parts.push(about.reason);  // a refusal has it
  parts.push(energyWords(about.energy));
  if (about.watermark) parts.push(about.watermark.on ? "watermarked" : "no watermark");
  line.append(` ${parts.filter(Boolean).join(" · ")}`);
  place.append(line);
  if (state.tokens.length) place.append(listOf(state.tokens));
}

function beginTurn(who, text) {
  const turn = made("div", undefined, "turn");
  turn.append(made("div", who, "who"));
  const said = made("div", text, "said");
  turn.append(said);
  by("talk").append(turn);
  return { turn, said };
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const line = part.replace(/^data: /, "");
      if (line !== "[DONE]") yield JSON.parse(line);
    }
  }
}

function busy(on) {
  by("send").disabled = on;
  by("stop").hidden = !on;
}

function choiceOf(states, index, count) {
  if (!states.has(index)) {
    const who = count > 1 ? `model, answer ${index + 1} of ${count}` : "model";
    states.set(index, { ...beginTurn(who, ""), tokens: [], text: "" });
  }
  return states.get(index);
}

function grown(state, choice) {
  const delta = choice.delta;
  if (delta.refusal && choice.index > 0) {  // all answers are refused alike: said once
    state.turn.remove();
    return;
  }
  if (delta.refusal) {
    state.turn.firstChild.textContent = "model";
    state.said.textContent = delta.refusal;
    state.text = delta.refusal;
  }
  if (delta.content) state.text += delta.content;
  const tokens = (choice.logprobs && choice.logprobs.content) || [];
  for (const token of tokens) {
    state.tokens.push(token);
    state.said.append(piece(token));
  }
  if (delta.conjoin) state.about = delta.conjoin;
  if (choice.finish_reason) finished(state.turn, state);
}

async function say(event) {
  event.preventDefault();
  const words = by("words").value.trim();
  if (!words || running) return;
  trouble(null);
  by("words").value = "";
  beginTurn("you", words);
  if (!hasTurns) turns = [];
  turns.push({ role: "user", content: words });
  running = new AbortController();
  busy(true);
  const count = Number(by("count").value);
  const states = new Map();
  try {
    const answer = await told(await fetch("v1/chat/completions", {
      method: "POST",
      headers: headers(),
      signal: running.signal,
      body: JSON.stringify({
        model: by("name").textContent,
        messages: turns,
        stream: true,
        logprobs: true,
        n: count,
        temperature: Number(by("temperature").value),
        max_tokens: Number(by("length").value),
      }),
    }));
    for await (const one of events(answer)) {
      if (one.error) throw new Error(one.error.message);
      for (const choice of one.choices) grown(choiceOf(states, choice.index, count), choice);
    }
  } catch (error) {
    if (error.name !== "AbortError") trouble(error);
  }
  const first = states.get(0);
  if (first) turns.push({ role: "assistant", content: first.text });
  else turns.pop();
  running = null;
  busy(false);
  by("words").focus();
}

async function beginTexts() {
  const answer = await told(await fetch("v1/models", { headers: headers() }));
  hasTurns = (await answer.json()).data[0].turns;
  by("texts").hidden = false;
  by("say").addEventListener("submit", say);
  by("words").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      by("say").requestSubmit();
    }
  });
  const stop = () => running && running.abort();
  by("stop").addEventListener("click", stop);
  document.addEventListener("keydown", (event) => event.key === "Escape" && stop());
  by("anew").addEventListener("click", () => {
    stop();
    turns = [];
    by("talk").replaceChildren();
    by("words").focus();
  });
  by("words").focus();
}

// ------------------------------------------------------------------------------------- rows

function cellsOf(text) {
  const out = [[]];
  let cell = "";
  let quoted = false;
  for (let i = 0; i < text.length; i += 1) {
    const c = text[i];
    if (quoted) {
      if (c === '"' && text[i + 1] === '"') { cell += '"'; i += 1; }
      else if (c === '"') quoted = false;
      else cell += c;
    } else if (c === '"') quoted = true;
    else if (c === ",") { out[out.length - 1].push(cell); cell = ""; }
    else if (c === "\n") { out[out.length - 1].push(cell.replace(/\r$/, "")); cell = ""; out.push([]); }
    else cell += c;
  }
  out[out.length - 1].push(cell);
  return out.filter((row) => row.length > 1 || row[0] !== "");
}

function valueOf(text, column) {
  if (text.trim() === "") return null;
  const numeric = column && column.type.includes("number") && !column.type.includes("boolean");
  return numeric && !Number.isNaN(Number(text)) ? Number(text) : text;
}

function rowLine(row, place) {
  const line = made("tr");
  line.append(made("td", String(place)));
  const verdict = made("td");
  verdict.append(badge(row.verdict));
  line.append(verdict, made("td", String(row.best_guess ?? row.answer ?? "")));
  line.append(made("td", number(row.familiarity, 3)), made("td", row.reason || "", "why"));
  return line;
}

function rates() {
  const errors = by("errors").value;
  const out = { false_alarm: Number(by("alarms").value) };
  return promised ? { ...out, max_error: errors === "" ? null : Number(errors) } : out;
}

async function decideFile(file, columns) {
  trouble(null);
  const [head, ...rest] = cellsOf(await file.text());
  const known = head.filter((name) => name in columns);
  const left = head.filter((name) => !(name in columns));
  const body = by("found").tBodies[0];
  body.replaceChildren();
  by("counts").textContent = "";
  by("found").hidden = true;
  const counts = {};
  let joules = 0;
  for (let start = 0; start < rest.length; start += ROWS_AT_ONCE) {
    const rows = rest.slice(start, start + ROWS_AT_ONCE).map((cells) =>
      Object.fromEntries(known.map((name) => [name, valueOf(cells[head.indexOf(name)] ?? "", columns[name])])));
    const found = await asked("decide", { rows, ...rates() });
    by("found").hidden = false;
    joules += found.energy ? found.energy.joules : 0;
    found.rows.forEach((row, i) => {
      counts[row.verdict] = (counts[row.verdict] || 0) + 1;
      if (start + i < MAX_SHOWN_ROWS) body.append(rowLine(row, start + i + 1));
    });
    const words = Object.entries(counts).map(([verdict, count]) => `${count} ${verdict}`).join(", ");
    const more = rest.length > MAX_SHOWN_ROWS ? `; the first ${MAX_SHOWN_ROWS} are shown` : "";
    const aside = left.length ? `; not columns of the model, and left out: ${left.join(", ")}` : "";
    by("counts").textContent = `${words} of ${rest.length} rows${more}; ${number(joules)} J${aside}.`;
  }
}

function levelsOf(column) {
  const told = (column.description || "").split(": ")[1];
  return told && !column.type.includes("number") ? told.split(", ").filter((level) => level !== "...") : [];
}

function fieldOf(name, column, index) {
  const label = made("label", `${name} (${(column.description || "").split(": ")[0]})`);
  const input = made("input");
  input.name = name;
  const levels = levelsOf(column);
  if (levels.length) {
    const list = made("datalist");
    list.id = `levels-${index}`;
    levels.forEach((level) => { const one = made("option"); one.value = level; list.append(one); });
    input.setAttribute("list", list.id);
    label.append(list);
  }
  label.append(input);
  return label;
}

function rowOfForm(columns) {
  const row = {};
  for (const input of by("fields").querySelectorAll("input")) {
    const value = valueOf(input.value, columns[input.name]);
    if (value !== null) row[input.name] = value;
  }
  return row;
}

async function decideOne(event, columns) {
  event.preventDefault();
  trouble(null);
  by("answer").replaceChildren();
  const found = await asked("decide", { rows: [rowOfForm(columns)], ...rates() });
  const row = found.rows[0];
  const line = made("p");
  const answer = row.best_guess ?? row.answer;
  line.append(badge(row.verdict), ` ${answer ?? ""}`);
  const worth = [`familiarity ${number(row.familiarity, 3)}`, row.reason, found.status, energyWords(found.energy)];
  by("answer").replaceChildren(line, made("p", worth.filter(Boolean).join(" · "), "worth"));
}

async function whatIf(columns) {
  trouble(null);
  const found = await asked("counterfactual", { rows: [rowOfForm(columns)], n: 3 });
  const list = made("ul");
  list.id = "changes";
  for (const row of found.rows) {
    const worth = row.probability === null ? "" : ` (p = ${number(row.probability)}, familiarity ${number(row.familiarity, 3)})`;
    list.append(made("li", `${row.changed}${worth}`));
  }
  if (by("changes")) by("changes").remove();
  by("answer").append(list);
}

function beginRows(api, columns) {
  by("rows").hidden = false;
  Object.entries(columns).forEach(([name, column], i) => by("fields").append(fieldOf(name, column, i)));
  const caught = (work) => work.catch(trouble);
  by("one").addEventListener("submit", (event) => caught(decideOne(event, columns)));
  promised = "/predict" in api.paths;
  by("errors").parentElement.hidden = !promised;
  by("whatif").hidden = !("/counterfactual" in api.paths);
  by("whatif").addEventListener("click", () => caught(whatIf(columns)));
  by("file").addEventListener("change", (event) => {
    if (event.target.files[0]) caught(decideFile(event.target.files[0], columns));
  });
  const drop = by("drop");
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files[0]) caught(decideFile(event.dataTransfer.files[0], columns));
  });
}

// ------------------------------------------------------------------------------------- begin

async function begin() {
  const health = await (await fetch("health")).json();
  by("name").textContent = health.model;
  document.title = `conjoin: ${health.model}`;
  const answer = await fetch("openapi.json", { headers: headers() });
  by("door").hidden = answer.status !== 401;
  if (answer.status === 401) {
    by("key").focus();
    if (key) throw new Error("The key is wrong.");
    return;
  }
  const api = await (await told(answer)).json();
  if ("/v1/chat/completions" in api.paths) { await beginTexts(); return; }
  const rows = api.components.schemas.RowsToDecide.properties.rows.items;
  beginRows(api, rows.properties || {});
}

by("door").addEventListener("submit", (event) => {
  event.preventDefault();
  trouble(null);
  key = by("key").value;
  begin().catch(trouble);
});
begin().catch(trouble);
