/* auraseal.js: a script runs only after its SHA-512 held. It stands first, neither async nor defer.
 * docs/specification/auraseal.md, section 7. */
(() => {
  "use strict";
  if (self.auraseal?.results instanceof Array) return;
  const MOST_BYTES = 32 << 20, TIMEOUT_MS = 30000;
  // Canonical base64: four spare bits are zero.
  const HASH = "([A-Za-z0-9+/]{85}[AQgw]==)", FORM = RegExp(`^auraseal-sha512-${HASH}(?:-${HASH})?$`);
  // Elements' names cannot cover prototypes.
  const nonce = Reflect.get(Document.prototype, "currentScript", document)?.nonce;
  const inside = Element.prototype.querySelectorAll, seen = new WeakMap(), results = [];
  const limbo = new Document(); // no script runs in here, not even a started one
  let trusted, last = Promise.resolve(); // they run in the order of the page
  try {
    trusted = self.trustedTypes?.createPolicy("auraseal", { createScriptURL: (url) => url });
  } catch {} // forbidden

  const fail = (reason, message) => { throw Object.assign(Error(message), { reason }); };

  /** The hashes of an attribute: [primary] or [primary, recovery]. */
  const parse = (text) =>
    (FORM.exec(text) ?? fail("attribute", "not of AuraSeal")).slice(1).filter(Boolean);

  async function load(url, hash, options) {
    const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) fail("fetch", `HTTP status ${answer.status}`);
    const reader = answer.body.getReader(), pieces = [];
    for (let size = 0, piece; !(piece = await reader.read()).done; pieces.push(piece.value))
      if ((size += piece.value.length) > MOST_BYTES) reader.cancel(), fail("fetch", "too large");
    const bytes = await new Blob(pieces).arrayBuffer();
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-512", bytes));
    return btoa(String.fromCharCode(...digest)) === hash ? bytes : fail("integrity", "SHA-512 differs");
  }

  /** Verified bytes, their hash, and why the recovery file had to do. */
  async function fetchVerified(url, integrity, fallback, options) {
    const [primary, recovery] = parse(integrity);
    try {
      return { bytes: await load(url, primary, options), hash: primary };
    } catch (error) {
      if (!recovery) throw error;
      fallback ||= String(url).replace(/(?=\.[^./?#]*(?:[?#]|$))/, ".part.1");
      const bytes = await load(fallback, recovery, { ...options, cache: "reload" });
      return { bytes, hash: recovery, why: error.message };
    }
  }

  /** Run exactly these bytes; the browser checks them again. */
  function run(element, kind, { bytes, hash }) {
    if (!element.isConnected) throw Error("removed");
    const url = URL.createObjectURL(new Blob([bytes], { type: "text/javascript;charset=utf-8" }));
    const script = document.createElement("script");
    if (kind === "module") script.type = kind;
    script.nonce = element.nonce;
    script.integrity = "sha512-" + hash;
    return new Promise((resolve, reject) => {
      script.src = trusted ? trusted.createScriptURL(url) : url;
      script.onload = resolve;
      script.onerror = () => reject(Error("not run"));
      element.after(script);
    }).finally(() => URL.revokeObjectURL(url));
  }

  async function handle(element, kind, late, original) {
    const before = last, url = element.getAttribute("src") && element.src;
    let done, verified, reason, why, state = "refused";
    if (!element.hasAttribute("async")) last = new Promise((resolve) => (done = resolve));
    try {
      if (late) fail("late", "may have run: use auraseal/module");
      if (!/^(module|script)$/.test(kind)) fail("type", "unknown type " + kind);
      if (!url) fail("src", "a component needs src");
      if (nonce && element.nonce !== nonce) fail("run", "needs the loader's nonce");
      verified = await fetchVerified(url, element.getAttribute("integrity"), element.dataset.fallbackUrl, {
        credentials: element.crossOrigin === "use-credentials" ? "include" : "same-origin",
      });
      if (done) await before;
      await run(element, kind, verified);
      why = verified.why;
      state = why ? "healed" : "verified";
    } catch (error) {
      reason = error.reason ?? (verified ? "run" : "fetch");
      why = error.message;
    }
    const detail = Object.freeze({ state, element, url, reason, why });
    results.push(detail);
    element.dataset.auraseal = state;
    (element.isConnected ? element : document).dispatchEvent(
      new CustomEvent("auraseal:" + state, { bubbles: true, detail }));
    for (const each of new Set([element, original])) each.dispatchEvent(new Event(reason ? "error" : "load"));
    await before;
    done?.();
  }

  function find(node, late) {
    if (!(node instanceof Element)) return;
    for (const element of [node, ...inside.call(node, "script")]) {
      if (seen.get(element)) limbo.adoptNode(element);
      if (element.localName !== "script" || element.type == null || seen.has(element)) continue;
      const type = element.type.trim().toLowerCase(), ours = type.startsWith("auraseal/");
      if (!ours && !/auraseal/i.test(element.getAttribute("integrity"))) continue;
      const kind = ours ? type.slice(9) : /^$|\/(x-)?(java|ecma|j|live)script[\d.]*$/.test(type) ? "script" : type;
      const twin = ours ? element : element.cloneNode(); // stands in for one that is started
      seen.set(twin).set(element, !ours);
      if (!ours) {
        element.type = twin.type = "auraseal/" + kind;
        element.replaceWith(twin);
        limbo.adoptNode(element);
      }
      handle(twin, kind, late && !ours, element);
    }
  }

  new MutationObserver((records) => {
    for (const { attributeName, target, addedNodes } of records)
      [attributeName && target, ...addedNodes].forEach((node) => find(node));
  }).observe(document, { childList: true, subtree: true, attributeFilter: ["src", "integrity"] });
  find(document.documentElement, true);
  self.auraseal = Object.freeze({ parse, fetch: fetchVerified, results });
})();
