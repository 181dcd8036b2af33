// One's own things: the password, one-time codes, and where one is signed in.
import { h, replace, said } from "../dom.js";
import { at, call, get, post, put, remove } from "../api.js";
import { when } from "../format.js";
import { qrCode } from "../qr.js";
import { ROLES } from "../words.js";
import { act, badge, button, copyable, dialog, facts, field, form, notice, Refused, table, toast } from "../widgets.js";

export const title = "Profile";
export const permission = "self";

export async function render(page) {
  const { principal, expires_at_s: ends } = page.session;
  const codes = h("section", { class: "panel" });
  const sessions = h("section", { class: "panel" });
  const drawCodes = (enabled) => replace(codes, h("h2", {}, "One-time codes"),
    h("p", {}, badge(enabled ? ["On", "good"] : ["Off", "warn"]), enabled ? " Signing in asks for a code of your authenticator app." : " A password alone signs you in. An authenticator app makes it two."),
    enabled ? button("Turn off", () => turnOff(drawn), { class: "danger-text" }) : button("Set up", () => setUp(drawn)));
  const drawn = (enabled) => { page.session.totp_enabled = enabled; drawCodes(enabled); };
  const load = async () => {
    const { items } = await get("/me/sessions", { signal: page.signal });
    replace(sessions, h("h2", {}, "Where you are signed in"), table("Sessions", [
      ["Browser", (one) => [said(browser(one.user_agent)), one.current && [" ", badge(["This one", "good"])]]],
      ["Address", (one) => said(one.address, { class: "mono" })],
      ["Since", (one) => when(one.created_at_s)],
      ["Last seen", (one) => when(one.seen_at_s)],
      ["Ends", (one) => when(one.expires_at_s)],
      ["", (one) => !one.current && end(one, load), "end"],
    ], items));
  };
  drawCodes(page.session.totp_enabled);
  await load();
  replace(page.body,
    h("section", { class: "panel" }, facts([
      ["Name", said(principal.name)], ["Role", said(principal.role), h("span", { class: "muted" }, ` – ${ROLES[principal.role] ?? ""}`)],
      principal.tenant_id && ["Tenant", said(principal.tenant_id)], ends !== null && ["Session ends", when(ends, "both")],
    ])),
    password(), codes, sessions);
}

function end(one, load) {
  const element = button("Sign out", async () => {
    await act(element, () => remove(at("me", "sessions", one.id)), "That session has ended");
    await load();
  }, { class: "danger-text", "aria-label": `Sign out ${browser(one.user_agent)} at ${one.address}` });
  return element;
}

function browser(text) {
  const name = /(Edg|OPR|Firefox|Chrome|Safari)[a-z]*\/(\d+)/i.exec(text ?? "");
  const system = /(Windows|Mac OS X|Android|iPhone|iPad|Linux)/.exec(text ?? "");
  if (!name) return (text ?? "").slice(0, 80) || "unknown";
  return `${{ __proto__: null, Edg: "Edge", OPR: "Opera" }[name[1]] ?? name[1]} ${name[2]}${system ? ` on ${system[1].replace(" OS X", "")}` : ""}`;
}

function password() {
  const element = form({
    submit: "Change the password", cls: "narrow",
    fields: [
      field("Present password", "old", { kind: "password", required: true, autocomplete: "current-password" }),
      field("New password", "new", { kind: "password", required: true, minlength: 12, autocomplete: "new-password", hint: "At least 12 characters. Your other sessions end." }),
      field("New password again", "again", { kind: "password", required: true, autocomplete: "new-password" }),
    ],
    send: async (data) => {
      if (data.get("new") !== data.get("again")) throw new Refused("The two passwords are not the same.", "again");
      await put("/me/password", { old: data.get("old"), new: data.get("new") });
      element.reset();
      toast("The password is changed; your other sessions have ended");
    },
  });
  return h("section", { class: "panel" }, h("h2", {}, "Password"), element);
}

async function setUp(drawn) {
  let made;
  try {
    made = await post("/me/totp");
  } catch (error) {
    return act(h("span"), () => { throw error; });
  }
  return dialog("Set up one-time codes", (close) => h("div", {},
    h("p", {}, "Scan this with an authenticator app, or type the secret in. It is not active before you enter a code."),
    qrCode(made.uri, "One-time code set-up"), copyable(made.secret, "Secret", "clip"),
    form({
      submit: "Turn on", cancel: button("Cancel", close),
      fields: field("Code of the app", "code", { required: true, inputmode: "numeric", autocomplete: "one-time-code", maxlength: 16 }),
      send: async (data) => {
        await put("/me/totp", { code: data.get("code").replace(/\s/g, "") });
        close();
        drawn(true);
        toast("One-time codes are on");
      },
    })));
}

function turnOff(drawn) {
  dialog("Turn one-time codes off", (close) => form({
    danger: true, submit: "Turn off", cancel: button("Keep them", close),
    fields: [notice("warn", "Your password alone will sign you in."), field("Password", "password", { kind: "password", required: true, autocomplete: "current-password" })],
    send: async (data) => {
      await call("DELETE", "/me/totp", { password: data.get("password") });
      close();
      drawn(false);
      toast("One-time codes are off");
    },
  }));
}
