// A new task: what is to be done, where it runs, on which sources, how often and for how much.
import { h, replace, said } from "../dom.js";
import { get, post, query } from "../api.js";
import { notice, empty, field, form, newId, Refused } from "../widgets.js";
import { size } from "./task_attempts.js";

export const title = "New task";
export const permission = "tasks.write";

const EFFORTS = [["", "The model's own"], ["minimal", "Minimal"], ["low", "Low"], ["medium", "Medium"], ["high", "High"], ["xhigh", "Highest"]];
const SOURCES = [["repository", "The environment's repository"], ["git", "Another Git repository"], ["upload", "A zip or tar file"]];
const KINDS = [[/\.zip$/i, "application/zip"], [/\.tar$/i, "application/x-tar"], [/\.(?:tar\.gz|tgz)$/i, "application/gzip"]];

export async function render(page) {
  const free = page.session.principal.tenant_id === null && page.can("tenants.read"); // belongs to no tenant: has to say for which
  const { items: tenants } = free ? await get("/tenants", { signal: page.signal }) : { items: [] };
  if (free && tenants.length === 0) return replace(page.body, empty("No tenant yet", h("p", {}, "A task belongs to a tenant. Create one first."), h("a", { class: "button primary", href: "/console/tenants" }, "Tenants")));
  const holder = h("div", {});
  const tenant = free && field("Tenant", "tenant", { kind: "select", choices: tenants.map((one) => [one.id, one.name]), value: tenants.find((one) => one.id === page.query.get("tenant"))?.id ?? tenants[0].id, onchange: () => load() });
  const of = () => (free ? tenant.querySelector("select").value : "");
  async function load() {
    const { items } = await get(query("/v1/environments", { tenant: of() }), { signal: page.signal });
    replace(holder, items.length === 0
      ? empty("No environment yet", h("p", {}, "A task runs in an environment: its repository, its set-up and its limits."), h("a", { class: "button primary", href: query("/console/environments/new", { tenant: of() }) }, "New environment"))
      : wish(page, items, of()));
  }
  await load();
  replace(page.body, tenant, holder);
}

function wish(page, environments, tenant) {
  const environment = field("Environment", "environment", { kind: "select", choices: environments.map((one) => [one.id, one.label]), value: environments.find((one) => one.id === page.query.get("environment"))?.id ?? environments[0].id, onchange: () => sourced() });
  const repository = h("p", { class: "hint" });
  const picked = h("p", { class: "hint", role: "status" });
  const git = h("div", { class: "form" },
    field("Address", "source.git", { maxlength: 2048, placeholder: "https://…", hint: "By https. The token belongs below, not into the address." }),
    field("Branch, tag or commit", "ref", { maxlength: 255, placeholder: "the default branch" }),
    field("Token", "token", { kind: "password", maxlength: 4096, autocomplete: "off", hint: "For a private repository. It is used to fetch and never shown or kept with the task." }));
  const file = field("File", "source.upload", { kind: "file", accept: ".zip,.tar,.tgz,.tar.gz", onchange: (event) => { const one = event.target.files[0]; picked.textContent = one ? `${one.name}, ${size(one.size)}` : ""; } });
  const zip = h("div", {}, file, picked);
  const source = SOURCES.map(([key, text]) => radio("source", key, text, () => sourced()));
  const chosen = () => source.find((one) => one.firstChild.checked)?.firstChild.value;
  const sourced = () => {
    const one = environments.find((each) => each.id === environment.querySelector("select").value);
    repository.replaceChildren(one?.repository ? said(one.repository) : "It names no repository: the workspace begins empty.");
    repository.hidden = chosen() !== "repository";
    git.hidden = chosen() !== "git";
    zip.hidden = chosen() !== "upload";
  };
  source[0].firstChild.checked = true;
  let last = ["", ""]; // the same wish sent again, after a failure on the way, must not become a second task
  const made = form({
    submit: "Start the task",
    fields: [
      field("What is to be done", "prompt", { kind: "textarea", required: true, rows: 8, spellcheck: "true", maxlength: 262144, hint: "As you would tell a colleague: what, where, and how one sees that it is done." }),
      environment,
      h("fieldset", {}, h("legend", {}, "Sources"), source, repository, git, zip),
      h("div", { class: "form grid" },
        field("Attempts", "attempts", { kind: "select", choices: ["1", "2", "3", "4"].map((one) => [one, one]), value: "1", hint: "They run side by side; a judge ranks them." }),
        field("Model", "model", { maxlength: 128, placeholder: "the gateway's choice" }),
        field("Effort", "effort", { kind: "select", choices: EFFORTS }),
        field("Budget in tokens", "budget_tokens", { kind: "number", min: 1000, max: 1000000000, step: 1, placeholder: "2000000", hint: "Of each attempt; it ends when they are spent." })),
    ],
    send: async (data) => {
      if (!data.get("prompt").trim()) throw new Refused("Say what is to be done.", "prompt");
      const body = { environment: data.get("environment"), prompt: data.get("prompt"), attempts: Number(data.get("attempts")) };
      for (const name of ["model", "effort"]) if (data.get(name).trim()) body[name] = data.get(name).trim();
      if (data.get("budget_tokens")) body.budget_tokens = Number(data.get("budget_tokens"));
      if (chosen() === "git") body.source = { git: gitOf(data) };
      const archive = chosen() === "upload" ? await sent(data.get("source.upload"), tenant, page) : null;
      if (archive !== null) body.source = { upload: archive };
      const now = JSON.stringify(body);
      if (last[0] !== now) last = [now, crypto.randomUUID()];
      const task = await post(query("/v1/tasks", { tenant }), body, { headers: { "idempotency-key": last[1] } });
      await page.go(`/console/tasks/${encodeURIComponent(task.id)}`);
    },
  });
  sourced();
  return h("div", { class: "panel" }, made);
}

function radio(name, value, text, onchange) {
  const id = newId();
  return h("div", { class: "field check" }, h("input", { type: "radio", id, name, value, onchange }), h("label", { for: id }, text));
}

function gitOf(data) {
  const url = data.get("source.git").trim();
  if (!/^https:\/\//i.test(url)) throw new Refused("Give the address of the repository, with https:// at its beginning.", "source.git");
  const git = { url };
  if (data.get("ref").trim()) git.ref = data.get("ref").trim();
  if (data.get("token")) git.token = data.get("token");
  return git;
}

const uploads = new WeakMap(); // a file that is there already is not sent twice

async function sent(file, tenant, page) {
  if (!(file instanceof File) || file.size === 0) throw new Refused("Choose a file.", "source.upload");
  const kind = KINDS.find(([names]) => names.test(file.name))?.[1];
  if (!kind) throw new Refused("Send a .zip, a .tar or a .tar.gz.", "source.upload");
  if (!uploads.has(file)) {
    const { id } = await post(query("/v1/uploads", { tenant }), file.slice(0, file.size, kind), { signal: page.signal });
    uploads.set(file, id);
  }
  return uploads.get(file);
}
