// Which documents does a pasted text hold? Several auth.json may stand one behind the other, or in one list.

export const MAX_BYTES = 1024 * 1024;
export const MAX_DOCUMENTS = 200;

// Texts of single JSON objects, in order. What is no JSON comes back whole: the gateway says what is wrong with it.
export function split(text) {
  const trimmed = text.trim();
  if (trimmed === "") return [];
  const whole = parsed(trimmed);
  if (Array.isArray(whole) && whole.length > 0) return whole.map((one) => JSON.stringify(one));
  if (whole !== undefined) return [trimmed];
  const parts = objects(trimmed);
  return parts.length > 0 && parts.every((part) => parsed(part) !== undefined) ? parts : [trimmed];
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// Cuts at the ends of outermost objects, minding strings; empty when something else stands between them.
function objects(text) {
  const found = [];
  let depth = 0, begin = 0, quoted = false;
  for (let at = 0; at < text.length; at++) {
    const mark = text[at];
    if (quoted) {
      if (mark === "\\") at++;
      else if (mark === '"') quoted = false;
    } else if (mark === '"') quoted = true;
    else if (mark === "{") {
      if (depth++ === 0) begin = at;
    } else if (mark === "}") {
      if (--depth === 0) found.push(text.slice(begin, at + 1));
      if (depth < 0) return [];
    } else if (depth === 0 && !/[\s,]/.test(mark)) return [];
  }
  return depth === 0 ? found : [];
}
