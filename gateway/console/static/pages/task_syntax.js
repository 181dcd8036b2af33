// Which parts of a line of source are strings, comments, keywords and numbers? A guess by the kind of file, one line at
// a time: enough to read by, never wrong about the text itself. parts(line, kind) -> [[class or null, text] ...].

const words = (text) => new Set(text.split(" "));
const C_LIKE = words("abstract as async auto await boolean break byte case catch char class const continue crate debugger default defer delete do double dyn else enum export extends extern false final finally float fn for from func function go goto if impl implements import in inline instanceof int interface let long loop match mod module move mut namespace new nil null of override package private protected pub public return self short signed sizeof static struct super switch this throw throws trait true try type typedef typeof undefined union unsafe unsigned use using var virtual void volatile where while yield");
const HASHED = words("and as assert async await begin break case class continue def del do done elif else elsif end esac except export False false fi finally for from function global if import in is lambda let local match module nil None nonlocal not null or pass raise rescue return self set then True true try unless until while with yield");
const SQL = words("alter and as begin by case commit create delete desc distinct drop else end exists from group having if in index inner insert into is join key left limit not null on or order outer primary references returning rollback select set table then union unique update values when where with");

const KINDS = [
  [/\.(?:[cm]?[jt]sx?|java|kt|go|rs|c|h|cc|cpp|hpp|cs|swift|scala|php|dart|proto|s?css|less)$/, { comment: "//", words: C_LIKE }],
  [/\.(?:py|pyi|sh|bash|zsh|rb|pl|ya?ml|toml|ini|cfg|conf|tf|nix|ex|exs|jl|r|mk|cmake|env)$|(?:^|\/)(?:Dockerfile|Makefile|Gemfile|Rakefile|\.gitignore)$/, { comment: "#", words: HASHED }],
  [/\.(?:sql|lua|hs)$/, { comment: "--", words: SQL }],
  [/\.(?:json|json5)$/, { comment: null, words: words("true false null") }],
];
const TOKEN = /"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|`(?:[^`\\]|\\.)*`?|\/\*.*?(?:\*\/|$)|[A-Za-z_$][\w$]*|\d[\w.]*|\/\/|--|#|[^"'`/\w$#-]+|[\s\S]/gy;

// null: nothing is known of such a file.
export function kindOf(path) {
  return KINDS.find(([names]) => names.test(path))?.[1] ?? null;
}

export function parts(line, kind) {
  if (kind === null) return [[null, line]];
  const found = [];
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(line); match !== null && match[0] !== ""; match = TOKEN.exec(line)) {
    const text = match[0];
    if (text === kind.comment) {
      found.push(["comment", line.slice(match.index)]);
      break;
    }
    const name = classOf(text, kind);
    if (found.length > 0 && found.at(-1)[0] === name) found.at(-1)[1] += text;
    else found.push([name, text]);
  }
  return found;
}

function classOf(text, kind) {
  if (/^["'`]/.test(text)) return "string";
  if (text.startsWith("/*")) return kind.comment === "//" ? "comment" : null;
  if (/^\d/.test(text)) return "number";
  if (kind.words.has(text) || (kind.words === SQL && kind.words.has(text.toLowerCase()))) return "keyword";
  return null;
}
