// Signing in: password and, when asked for, a one-time code; or single sign-on when the gateway has it.
import { h, replace } from "../dom.js";
import { get, post } from "../api.js";
import { field, form, notice, Refused } from "../widgets.js";

export const title = "Sign in";

const SSO = {
  __proto__: null,
  no_role: "None of your groups has a role here. Ask an owner.",
  disabled: "You are disabled here. Ask an owner.",
  provider_unavailable: "The identity provider does not answer. Try again later.",
  provider_refused: "The identity provider refused. Ask who runs it.",
  state_used: "This sign-in was used or is too old. Begin it again.",
};

export async function render(page) {
  const offered = await get("/sign-in", { signal: page.signal });
  const next = page.nextPath();
  const code = h("div", { hidden: true }, field("One-time code", "code", {
    inputmode: "numeric", autocomplete: "one-time-code", maxlength: 32, hint: "Six digits of your authenticator app",
  }));
  const open = form({
    submit: "Sign in", fields: [
      field("Name", "name", { required: true, autocomplete: "username", autocapitalize: "none", spellcheck: "false", maxlength: 128 }),
      field("Password", "password", { kind: "password", required: true, autocomplete: "current-password" }),
      code,
    ],
    send: async (data) => {
      const body = { name: data.get("name").trim(), password: data.get("password") };
      if (data.get("code")) body.code = data.get("code").replace(/\s/g, "");
      try {
        page.signedIn(await post("/session", body, { signingIn: true }));
      } catch (error) {
        if (error.code !== "code_required") throw error;
        code.hidden = false;
        const input = code.querySelector("input");
        input.required = true;
        input.focus();
        if (body.code) throw error;
        throw new Refused("Enter the one-time code of your authenticator app.", "code");
      }
      await page.go(next, { replaceEntry: true });
    },
  });
  replace(page.body,
    page.query.get("ended") && notice("info", "Your session has ended. Sign in again to go on."),
    page.query.get("error") && notice("bad", `Single sign-on did not let you in. ${SSO[page.query.get("error")] ?? "Try again; if it stays, the gateway's log has the reason."}`),
    offered.bootstrap_needed && notice("info", "There is no administrator yet. Run ", h("code", {}, "codex-relay admins bootstrap"),
      " on the gateway's machine and open the link that it writes into a file."),
    offered.password && open,
    offered.oidc && h("div", { class: "or" }, offered.password && h("p", { class: "muted" }, "or"),
      h("a", { class: "button wide", href: `/console/oidc/start?next=${encodeURIComponent(next)}` }, "Continue with single sign-on")));
  page.body.querySelector("input")?.focus();
}
