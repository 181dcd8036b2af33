// How is an element made? By h(), which knows attributes, listeners and text, and nothing that reads markup.
// Strings become text nodes, always. Addresses are kept only when they are http(s) or a path of our own.

const SVG = "http://www.w3.org/2000/svg";
// control characters and marks that reorder text: they could make one name look like another
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else if (name === "href") setAddress(element, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

function setAddress(element, value) {
  const address = safeAddress(value);
  if (address !== null) element.setAttribute("href", address);
}

// An address that may stand in a link, or null. What the server or the issuer says is not trusted here either.
export function safeAddress(value) {
  const text = String(value);
  if (/^[/#]/.test(text) && !/^\/[/\\]/.test(text)) return text;
  try {
    const address = new URL(text);
    return address.protocol === "https:" || address.protocol === "http:" ? address.href : null;
  } catch {
    return null;
  }
}

// Text that somebody else chose: as it is, without marks that cannot be seen, kept from reordering its neighbours.
export function said(text, attributes) {
  return h("bdi", attributes, seen(text));
}

export function seen(text) {
  return String(text ?? "").replace(UNSEEN, "\ufffd");
}
