// The console's frame: who is signed in, which page the address names, and how one gets to another.
// Pages are modules with title, permission and render(page); a page's timers and requests end when it is left.
import { append, h, replace, said } from "./dom.js";
import { ApiError, get, remove, setCsrf, whenSignedOut } from "./api.js";
import { nowS, tick } from "./format.js";
import { explain, PERMISSIONS } from "./words.js";
import { badge, failed, loading, notice } from "./widgets.js";
import * as overview from "./pages/overview.js";
import * as accounts from "./pages/accounts.js";
import * as addAccount from "./pages/add_account.js";
import * as tasks from "./pages/tasks.js";
import * as task from "./pages/task.js";
import * as newTask from "./pages/task_new.js";
import * as environments from "./pages/environments.js";
import * as environment from "./pages/environment.js";
import * as tenants from "./pages/tenants.js";
import * as keys from "./pages/keys.js";
import * as admins from "./pages/admins.js";
import * as audit from "./pages/audit.js";
import * as profile from "./pages/profile.js";
import * as signIn from "./pages/sign_in.js";
import * as welcome from "./pages/welcome.js";

// Address below /console, page, name in the navigation (null: not in it), feature it depends on. ":id" stands for one
// part of the address, which the page gets as page.id; an address without it goes first.
const PAGES = [
  ["", overview, "Overview", null],
  ["/tasks", tasks, "Tasks", "sandbox"],
  ["/tasks/new", newTask, null, "sandbox"],
  ["/tasks/:id", task, null, "sandbox"],
  ["/environments", environments, "Environments", "sandbox"],
  ["/environments/new", environment, null, "sandbox"],
  ["/environments/:id", environment, null, "sandbox"],
  ["/accounts", accounts, "Accounts", null],
  ["/accounts/add", addAccount, null, null],
  ["/tenants", tenants, "Tenants", null],
  ["/keys", keys, "Keys", null],
  ["/audit", audit, "Audit", null],
  ["/admins", admins, "Administrators", null],
  ["/profile", profile, "Profile", null],
];

const LINKS = ["/welcome", "/link"]; // where one-time links lead
const IDLE_S = 300; // without a sign of a person, pages stop asking: a forgotten tab must not keep a session alive
const app = document.getElementById("app");
let session = null;
let leaving = new AbortController();
let lastSignS = nowS();

for (const kind of ["pointerdown", "keydown", "pointermove", "focus"]) {
  addEventListener(kind, () => { lastSignS = nowS(); }, { passive: true });
}
setInterval(tick, 1000);

const place = () => location.pathname.replace(/^\/console\/?/, "/").replace(/^\/$/, "").replace(/\/$/, "");
const can = (permission) => session !== null && (PERMISSIONS[session.principal.role] ?? []).includes(permission);

export function go(path, { replaceEntry = false } = {}) {
  history[replaceEntry ? "replaceState" : "pushState"](null, "", path);
  return show();
}

function signedIn(found) {
  session = found;
  setCsrf(found.csrf_token);
}

// Where to go after signing in: a page of ours, whatever the address says.
function nextPath() {
  const asked = new URLSearchParams(location.search).get("next") ?? "";
  return /^\/console(\/[\w/-]*)?(\?[\w=&%.-]*)?$/.test(asked) && !asked.includes("//") && !asked.startsWith("/console/sign-in") ? asked : "/console";
}

whenSignedOut(() => {
  const had = session !== null;
  session = null;
  setCsrf(null);
  if (place() === "/sign-in" || LINKS.includes(place())) return;
  const members = new URLSearchParams({ next: location.pathname + location.search, ...(had ? { ended: "1" } : {}) });
  go(`/console/sign-in?${members}`, { replaceEntry: true });
});

async function show() {
  leaving.abort();
  leaving = new AbortController();
  for (const open of document.querySelectorAll("dialog")) open.close();
  const path = place();
  if (LINKS.includes(path)) return bare(welcome);
  if (path === "/sign-in") return bare(signIn);
  if (session === null) {
    replace(app, loading());
    try {
      signedIn(await get("/session"));
    } catch (error) {
      if (error.code !== "not_signed_in") replace(app, h("main", { class: "bare", id: "main" }, notice("bad", explain(error)), retry()));
      return;
    }
  }
  const known = PAGES.find(([address, , , feature]) => fits(address, path) && (!feature || session.features[feature]));
  const home = can("accounts.read") ? "/console" : session.features.sandbox ? "/console/tasks" : "/console/profile";
  if (path === "" && !can("accounts.read")) return go(home, { replaceEntry: true });
  const main = h("main", { id: "main", tabindex: -1 });
  replace(app, frame(path), main);
  if (!known) return replace(main, h("h1", {}, "No such page"), h("p", {}, h("a", { href: home }, "Go to the start")));
  const page = known[1];
  document.title = `${page.title} · codex-relay`;
  if (!can(page.permission)) {
    return replace(main, h("h1", {}, page.title), notice("bad", "Your role may not see this page."));
  }
  const body = h("div", { class: "page" }, loading());
  replace(main, h("div", { class: "page-head" }, h("h1", {}, page.title), h("div", { class: "page-actions", id: "page-actions" })), body);
  await render(page, main, body);
}

const fits = (address, path) => (address.endsWith("/:id") ? /^[\w-]+$/.test(after(address, path)) : address === path);
const after = (address, path) => (path.startsWith(address.slice(0, -3)) ? path.slice(address.length - 3) : "");

async function render(page, main, body) {
  const signal = leaving.signal;
  const context = {
    body, signal, session, can, go, signedIn, refresh: () => { if (!signal.aborted) show(); },
    actions: (...nodes) => append(replace(main.querySelector("#page-actions")), nodes),
    every: (seconds, run) => every(seconds, run, signal),
    signOut, nextPath, id: place().split("/").at(-1), query: new URLSearchParams(location.search),
  };
  try {
    await page.render(context);
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (!(error instanceof ApiError)) console.error(error);
    replace(body, notice("bad", said(error instanceof ApiError ? explain(error) : "The page failed. Load it again.")), retry());
  }
}

// Repeats while the page is shown, somebody is there, and nothing is being asked already.
function every(seconds, run, signal) {
  let busy = false;
  const timer = setInterval(async () => {
    if (busy || document.hidden || nowS() - lastSignS > IDLE_S) return;
    busy = true;
    try {
      await run();
    } catch (error) {
      if (!signal.aborted && error.code !== "not_signed_in") console.info("refresh failed", error.code);
    } finally {
      busy = false;
    }
  }, seconds * 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
}

async function bare(page) {
  document.title = `${page.title} · codex-relay`;
  const body = h("div", { class: "page" }, loading());
  const main = h("main", { class: "bare", id: "main", tabindex: -1 }, h("div", { class: "card" }, brand(), h("h1", {}, page.title), body));
  replace(app, main);
  await render(page, main, body);
}

const retry = () => h("p", {}, h("button", { type: "button", onclick: () => location.reload() }, "Try again"));
const brand = () => h("span", { class: "brand" }, h("img", { src: "/console/static/icon.svg", alt: "", width: 22, height: 22 }), "codex-relay");

function frame(path) {
  const { principal } = session;
  const links = PAGES.filter(([, page, name, feature]) => name && can(page.permission) && (!feature || session.features[feature]));
  const current = `/${path.split("/")[1] ?? ""}`.replace(/^\/$/, "");
  const list = h("ul", { id: "nav-list" }, links.map(([address, , name]) => h("li", {},
    h("a", { href: `/console${address}`, "aria-current": address === current ? "page" : null }, name))));
  const toggle = h("button", {
    type: "button", class: "nav-toggle", "aria-expanded": "false", "aria-controls": "nav-list",
    onclick: () => toggle.setAttribute("aria-expanded", String(list.classList.toggle("open"))),
  }, "Menu");
  return h("header", { class: "side" }, brand(), toggle, h("nav", { "aria-label": "Main" }, list),
    h("div", { class: "who" },
      h("div", { class: "who-name" }, said(principal.name), badge([principal.role, "off"])),
      h("button", { type: "button", class: "plain", onclick: signOut }, "Sign out")));
}

async function signOut() {
  try {
    await remove("/session");
  } catch (error) {
    if (error.code !== "not_signed_in") return failed(error);
  }
  session = null;
  setCsrf(null);
  return go("/console/sign-in");
}

addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !plain || link.target || link.origin !== location.origin || !/^\/console(\/|$)/.test(link.pathname)) return;
  if (link.pathname.startsWith("/console/oidc/") || link.hash) return;
  event.preventDefault();
  go(link.pathname + link.search).then(() => document.getElementById("main")?.focus());
});
addEventListener("popstate", show);
show();
