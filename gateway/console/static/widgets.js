// The parts that pages are made of: messages, badges, bars, tables, forms, dialogs, menus.
import { append, h, replace, said, seen } from "./dom.js";
import { when } from "./format.js";
import { explain, windowName } from "./words.js";

let serial = 0;
export const newId = () => `e${++serial}`;

// Says it to a screen reader and shows it for a while. kind: good | bad.
export function toast(message, kind = "good") {
  const box = h("div", { class: `toast ${kind}` }, said(message),
    h("button", { type: "button", class: "plain", "aria-label": "Dismiss", onclick: () => box.remove() }, "×"));
  document.getElementById("toasts").append(box);
  document.getElementById("live").textContent = seen(message);
  setTimeout(() => box.remove(), kind === "bad" ? 12000 : 6000);
}

export function failed(error) {
  if (error.name !== "AbortError") toast(explain(error), "bad");
}

export function badge([text, kind]) {
  return h("span", { class: `badge ${kind}` }, seen(text));
}

export function notice(kind, ...children) {
  return h("div", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : null }, children);
}

export function loading(what = "Loading") {
  return h("p", { class: "loading muted", role: "status" }, `${what} …`);
}

export function empty(title, ...children) {
  return h("div", { class: "empty" }, h("p", { class: "strong" }, title), children);
}

export function button(text, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, text);
}

// Runs an act with its button out of service meanwhile; says what came of it.
export async function act(element, run, done) {
  if (element.getAttribute("aria-busy") === "true") return null;
  element.setAttribute("aria-busy", "true");
  try {
    const result = await run();
    if (done) toast(typeof done === "function" ? done(result) : done);
    return result;
  } catch (error) {
    failed(error);
    return null;
  } finally {
    element.removeAttribute("aria-busy");
  }
}

// A window of an account: how much of it is used, and when it begins anew.
export function bar(window) {
  const used = Math.min(100, Math.max(0, Number(window.used_percent) || 0));
  const over = window.resets_at_s !== null && window.resets_at_s * 1000 < Date.now();
  const shown = over ? 0 : used;
  const fill = h("span", { class: shown >= 95 ? "fill bad" : shown >= 80 ? "fill warn" : "fill" });
  fill.style.setProperty("inline-size", `${shown}%`);
  const name = seen(windowName(window));
  return h("div", { class: "window" },
    h("span", { class: "window-name" }, name),
    h("span", {
      class: "bar", role: "meter", "aria-label": `${name} window`, "aria-valuemin": 0, "aria-valuemax": 100,
      "aria-valuenow": Math.round(shown), "aria-valuetext": `${Math.round(shown)} percent used`,
    }, fill),
    h("span", { class: "window-used" }, `${Math.round(shown)} %`),
    h("span", { class: "window-reset muted" },
      over ? "has reset" : window.resets_at_s === null ? "" : ["resets ", when(window.resets_at_s, "both")]));
}

// columns: [title, cell(item) -> node or text, class]; a real table that scrolls by itself when it is too wide.
export function table(caption, columns, items) {
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: 0 },
    h("table", {},
      h("caption", { class: "visually-hidden" }, caption),
      h("thead", {}, h("tr", {}, columns.map(([title, , kind]) =>
        h("th", { scope: "col", class: kind }, title || h("span", { class: "visually-hidden" }, "Actions"))))),
      h("tbody", {}, items.map((item) => h("tr", {}, columns.map(([, cell, kind]) => h("td", { class: kind }, cell(item))))))));
}

// One labelled field. kinds: text, password, number, textarea, select, checkbox.
export function field(label, name, options = {}) {
  const id = newId();
  const { kind = "text", hint, choices, value, ...attributes } = options;
  const shared = { id, name, "aria-describedby": hint ? `${id}-hint` : null, ...attributes };
  if (kind === "checkbox") {
    return h("div", { class: "field check" }, h("input", { ...shared, type: "checkbox", checked: Boolean(value) }),
      h("label", { for: id }, label), hint && h("p", { class: "hint", id: `${id}-hint` }, hint));
  }
  let input;
  if (kind === "select") {
    input = h("select", shared, choices.map(([key, text]) => h("option", { value: key }, seen(text))));
    if (value !== undefined) input.value = value;
  } else if (kind === "textarea") {
    input = h("textarea", { rows: 5, spellcheck: "false", ...shared, value: value ?? "" });
  } else {
    input = h("input", { autocomplete: "off", ...shared, type: kind, value: value ?? "" });
  }
  return h("div", { class: "field" }, h("label", { for: id }, label), input,
    hint && h("p", { class: "hint", id: `${id}-hint` }, hint));
}

// A form that sends once, shows its failure beside the fields and puts the focus where the fault is.
export function form({ fields, submit, send, cancel, cls = "", danger = false }) {
  const problem = h("div", { class: "problem" });
  const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, submit);
  const element = h("form", {
    class: `form ${cls}`, novalidate: true,
    onsubmit: async (event) => {
      event.preventDefault();
      if (go.getAttribute("aria-busy") === "true") return;
      const bad = element.querySelector(":invalid:not(fieldset)");
      if (bad) return showFault(bad, problem);
      go.setAttribute("aria-busy", "true");
      replace(problem);
      for (const one of element.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
      try {
        await send(new FormData(element), element);
      } catch (error) {
        if (error.name === "AbortError") return;
        if (error.status === undefined && !(error instanceof Refused)) throw error;
        replace(problem, notice("bad", said(error instanceof Refused ? error.message : explain(error))));
        const at = error.param && element.elements.namedItem(error.param);
        if (at instanceof HTMLElement) {
          at.setAttribute("aria-invalid", "true");
          at.focus();
        }
      } finally {
        go.removeAttribute("aria-busy");
      }
    },
  }, fields, problem, h("div", { class: "actions" }, go, cancel));
  return element;
}

function showFault(input, problem) {
  const label = document.querySelector(`label[for="${CSS.escape(input.id)}"]`)?.textContent ?? input.name;
  input.setAttribute("aria-invalid", "true");
  replace(problem, notice("bad", `${label}: ${input.validationMessage}`));
  input.focus();
}

// Raised by a form's own check, with the field at fault.
export class Refused extends Error {
  constructor(message, param) {
    super(message);
    this.param = param;
  }
}

// A modal dialog; the focus goes back where it was. build(close) gives its content.
export function dialog(title, build) {
  const before = document.activeElement;
  const id = newId();
  const element = h("dialog", { "aria-labelledby": id });
  const close = () => element.close();
  element.addEventListener("close", () => {
    element.remove();
    if (before?.isConnected) before.focus();
    else document.getElementById("main")?.focus();
  });
  append(element, [
    h("header", {}, h("h2", { id }, seen(title)), h("button", { type: "button", class: "plain", "aria-label": "Close", onclick: close }, "×")),
    build(close),
  ]);
  document.body.append(element);
  element.showModal();
  element.querySelector("input, select, textarea")?.focus();
  return element;
}

// Asks before something is removed: the name has to be typed.
export function confirmTyped({ title, text, name, submit, send }) {
  dialog(title, (close) => {
    const input = field("Type the name to confirm", "confirm", { required: true, spellcheck: "false" });
    const made = form({
      danger: true, submit, cancel: button("Keep it", close),
      fields: [h("p", {}, text), h("p", {}, "Its name: ", said(name, { class: "strong mono" })), input],
      send: async (data) => {
        if (data.get("confirm") !== name) throw new Refused("This is not its name.", "confirm");
        await send(name);
        close();
      },
    });
    return made;
  });
}

export function ask({ title, text, submit, send, danger = true }) {
  dialog(title, (close) => form({
    danger, submit, cancel: button("Cancel", close), fields: [h("p", {}, text)],
    send: async () => { await send(); close(); },
  }));
}

// A value to take away: shown whole, with a button that copies it.
export function copyable(value, label, cls = "") {
  const text = h("code", { class: `copy-text ${cls}`, tabindex: 0 }, seen(value));
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(value);
      toast(`${label} copied`);
    } catch {
      getSelection().selectAllChildren(text);
      toast(`${label} is marked: copy it with the keyboard`);
    }
  }, { "aria-label": `Copy ${label.toLowerCase()}` });
  return h("div", { class: "copyable" }, text, copy);
}

// A menu behind a button; arrows move, Escape closes. entries: [text, run, danger?]
export function menu(label, entries, text = "More") {
  const list = h("div", { class: "menu-list", role: "menu", hidden: true });
  const opener = h("button", { type: "button", "aria-haspopup": "menu", "aria-expanded": "false", "aria-label": label, class: "menu-button", "data-act": "menu" }, text, h("span", { "aria-hidden": "true", class: "caret" }, "▾"));
  const box = h("div", { class: "menu" }, opener, list);
  const outside = (event) => { if (!box.contains(event.target)) show(false); };
  const show = (open) => {
    list.hidden = !open;
    opener.setAttribute("aria-expanded", String(open));
    document[open ? "addEventListener" : "removeEventListener"]("pointerdown", outside);
    if (open) list.firstElementChild?.focus();
  };
  append(list, entries.map(([text, run, danger]) => h("button", {
    type: "button", role: "menuitem", tabindex: -1, class: danger ? "danger-text" : null,
    onclick: () => { show(false); opener.focus(); run(opener); },
  }, text)));
  opener.addEventListener("click", () => show(list.hidden));
  box.addEventListener("keydown", (event) => {
    const items = [...list.children];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape" && !list.hidden) { show(false); opener.focus(); event.preventDefault(); }
    else if (step && list.hidden) { show(true); event.preventDefault(); }
    else if (step) {
      items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
      event.preventDefault();
    } else if (event.key === "Tab" && !list.hidden) show(false);
  });
  return box;
}

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, ...value]) => [h("dt", {}, name), h("dd", {}, value)]));
}
