// One login on its way in, as it stands on the gateway: what to do next, who asked, where it lands, how it ended.
import { h, replace, said } from "../dom.js";
import { at, get, post, remove } from "../api.js";
import { when } from "../format.js";
import { LOGIN_STATES } from "../words.js";
import { act, badge, button, copyable, facts, field, form, notice } from "../widgets.js";

const TUNNEL = "ssh -L 1455:localhost:1455 you@the-gateway";

export async function showLogin(page, id) {
  const path = at("logins", id);
  const writes = page.can("accounts.write");
  const state = h("div", { "aria-live": "polite" });
  const steps = h("div", {});
  let shown = "";

  function show(login) {
    const now = `${login.state} ${login.version}`;
    if (now === shown) return;
    shown = now;
    replace(state, h("p", {}, badge(LOGIN_STATES[login.state] ?? [login.state, "off"]),
      login.state === "pending" && [" ends in ", when(login.expires_at_s, "countdown")]));
    replace(steps, login.state === "pending" ? (login.kind === "device" ? device(login) : callback(login, path, show, writes)) : ended(login));
    replace(about, facts([
      ["Asked for by", said(login.requested_by)],
      ["Began", when(login.created_at_s)],
      ["Lands in", "pool ", said(login.pool), " of this gateway"],
      login.label && ["Called", said(login.label)],
      ["Takes", login.expect ? ["only ", said(login.expect)] : "whichever account signs in"],
    ]));
    cancel.hidden = login.state !== "pending" || !writes;
  }

  const about = h("div", {});
  const cancel = button("Cancel this sign-in", async () => {
    const login = await act(cancel, () => remove(path), "The sign-in is cancelled");
    if (login) show(login);
  }, { class: "danger-text" });
  show(await get(path, { signal: page.signal }));
  replace(page.body, h("section", { class: "panel login" }, state, steps, about, h("div", { class: "actions" }, cancel,
    h("a", { href: "/console/accounts/add" }, "Add another"))));
  const look = async () => show(await get(path, { signal: page.signal }));
  page.every(2, async () => {
    if (shown.startsWith("pending")) await look();
  });
}

function device(login) {
  if (!login.user_code) return notice("info", "It is under way. The code is shown to those who may add accounts.");
  return [
    h("ol", { class: "steps" },
      h("li", {}, "Open this page on any machine and sign in with the account that is to be added:",
        h("p", {}, h("a", { href: login.verification_url, target: "_blank", rel: "noopener noreferrer", class: "button primary" }, "Open the sign-in page"),
          h("span", { class: "muted address" }, said(login.verification_url)))),
      h("li", {}, "Enter this code there:", copyable(login.user_code, "Code", "code"))),
    h("p", { class: "muted" }, "This page sees by itself when it is done. You may close it and come back."),
    notice("warn", "Enter the code only if you asked for it yourself, here. Whoever enters it gives this gateway the use of his account: everybody whose tenant is given the pool ", said(login.pool), " will use its quota."),
  ];
}

function callback(login, path, show, writes) {
  if (!login.authorize_url) return notice("info", "It is under way. The link is shown to those who may add accounts, and only the session that began it can finish it.");
  return [
    h("ol", { class: "steps" },
      h("li", {}, "Open this link in a browser and sign in with the account that is to be added:",
        h("p", {}, h("a", { href: login.authorize_url, target: "_blank", rel: "noopener noreferrer", class: "button primary" }, "Open the sign-in page")),
        copyable(login.authorize_url, "Link", "clip")),
      h("li", {}, "At the end the browser shows a page that cannot be loaded. That is as it should be. Its address begins with ",
        h("code", {}, "http://127.0.0.1:1455/auth/callback"), " or ", h("code", {}, "http://localhost:1455/auth/callback"), "."),
      h("li", {}, "Copy the whole address out of the address bar and paste it here:",
        writes && form({
          submit: "Finish the sign-in",
          fields: field("Address", "url", { kind: "textarea", rows: 3, required: true, maxlength: 8192, class: "mono", placeholder: "http://127.0.0.1:1455/auth/callback?code=…" }),
          send: async (data) => show(await post(`${path}/callback`, { url: data.get("url").trim() })),
        }))),
    h("p", { class: "muted" }, "Only the console session that began this sign-in can finish it."),
    h("details", {}, h("summary", {}, "Another way: an SSH tunnel, nothing to paste"),
      h("p", {}, "With a Codex CLI on the gateway's machine the browser can reach it through a tunnel:"),
      h("ol", { class: "steps" },
        h("li", {}, "On your own machine:", copyable(TUNNEL, "Command", "clip")),
        h("li", {}, "In that session, with a home that nothing else uses:", copyable("CODEX_HOME=$HOME/new-account codex login", "Command", "clip")),
        h("li", {}, "Open the address that it prints in your own browser. The browser ends at port 1455 of your machine, which the tunnel leads to the gateway's."),
        h("li", {}, "Bring the file in and delete it:", copyable("codex-relay accounts import $HOME/new-account/auth.json && rm -r $HOME/new-account", "Command", "clip")))),
    notice("warn", "Sign in with the account that is to be added, not with your own by habit: everybody whose tenant is given the pool ", said(login.pool), " will use its quota."),
  ];
}

const NEXT = {
  __proto__: null,
  issuer_unreachable: "Check the gateway's way to the issuer, then begin again.",
  issuer_refused: "Begin again; the code or the consent was refused.",
  device_login_disabled: "Allow device codes in the account's security settings, or paste the address instead.",
  account_mismatch: "Somebody signed in with another account than the expected one. Nothing was stored.",
};

function ended(login) {
  if (login.state === "done") {
    return [notice("good", "The account ", said(login.account_label ?? login.account_id ?? ""), " is here and serves."),
      h("p", {}, h("a", { href: "/console/accounts", class: "button primary" }, "See the accounts"))];
  }
  if (login.state === "cancelled") return notice("info", "It was cancelled. Nothing was stored.");
  if (login.state === "expired") return notice("bad", "Nobody finished it in time. Nothing was stored; begin again.", login.failure && h("p", {}, said(login.failure.message)));
  const failure = login.failure ?? { code: "failed", message: "It failed." };
  return notice("bad", said(failure.message), NEXT[failure.code] && h("p", {}, NEXT[failure.code]), h("p", { class: "muted" }, "Code: ", said(failure.code)));
}
