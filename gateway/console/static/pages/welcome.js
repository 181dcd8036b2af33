// The page behind a one-time link. The token stands in the address's fragment, which no server and no log ever sees;
// it is taken out of the address at once and kept in this page's memory alone.
import { h, replace } from "../dom.js";
import { get, post } from "../api.js";
import { field, form, notice, Refused } from "../widgets.js";

export const title = "Welcome";

let kept = "";

export async function render(page) {
  if (location.hash.length > 1) {
    kept = decodeURIComponent(location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
  }
  if (kept === "") {
    return replace(page.body, notice("bad", "This link is not whole. Open it exactly as you got it, with everything behind the # sign."),
      h("p", {}, h("a", { href: "/console/sign-in" }, "Sign in instead")));
  }
  const { bootstrap_needed: first } = await get("/sign-in", { signal: page.signal });
  replace(page.body,
    h("p", {}, first ? "You are the first: this makes you the owner of this gateway." : "Choose the password that you will sign in with."),
    form({
      submit: first ? "Become the owner" : "Set the password and sign in",
      fields: [
        first && field("Your name", "name", { required: true, autocomplete: "username", maxlength: 64, autocapitalize: "none", spellcheck: "false" }),
        field("Password", "password", { kind: "password", required: true, minlength: 12, autocomplete: "new-password", hint: "At least 12 characters" }),
        field("Password again", "again", { kind: "password", required: true, autocomplete: "new-password" }),
      ],
      send: async (data) => {
        if (data.get("password") !== data.get("again")) throw new Refused("The two passwords are not the same.", "again");
        const body = { token: kept, password: data.get("password") };
        if (first) body.name = data.get("name").trim();
        page.signedIn(await post("/bootstrap", body, { signingIn: true }));
        kept = "";
        await page.go("/console", { replaceEntry: true });
      },
    }));
  page.body.querySelector("input")?.focus();
}
