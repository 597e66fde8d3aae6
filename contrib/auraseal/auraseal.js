/* auraseal.js: a script runs only after its SHA-512 held. docs/specification/auraseal.md, section 7.
 *
 *   <script src="auraseal.js"></script>       before all others, neither async nor defer
 *   <script type="auraseal/module" src="core.js" integrity="auraseal-sha512-HASH-HASH"></script>
 *
 * Two hashes: core.js must match the first, or the recovery file (data-fallback-url, else core.part.1.js) the second.
 * Anything else is refused and never runs. auraseal/script is for classic scripts. Each element gets
 * data-auraseal="verified|healed|refused" and the event auraseal:<that>, which bubbles and says why. */
(() => {
  "use strict";
  const MOST_BYTES = 32 << 20, TIMEOUT_MS = 30000;
  // 64 bytes in canonical base64: four spare bits are zero.
  const HASH = "([A-Za-z0-9+/]{85}[AQgw]==)", FORM = RegExp(`^auraseal-sha512-${HASH}(?:-${HASH})?$`);
  const nonce = document.currentScript?.nonce, seen = new WeakSet(), results = [];
  const trusted = self.trustedTypes?.createPolicy("auraseal", { createScriptURL: (url) => url });
  let last = Promise.resolve(); // components run in the order of the page

  const fail = (reason, message) => { throw Object.assign(Error(message), { reason }); };

  /** The hashes of an attribute, as base64: [primary] or [primary, recovery]. */
  const parse = (text) =>
    (FORM.exec(text) ?? fail("attribute", "not an AuraSeal attribute")).slice(1).filter(Boolean);

  /** The bytes at url, if their SHA-512 is hash. */
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

  /** Verified bytes, with their hash; why is set if the recovery file had to do. */
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

  /** Run exactly these bytes; the browser checks their hash once more. */
  function run(element, kind, { bytes, hash }) {
    const url = URL.createObjectURL(new Blob([bytes], { type: "text/javascript;charset=utf-8" }));
    const script = document.createElement("script");
    if (kind === "module") script.type = kind;
    if (nonce) script.nonce = nonce;
    script.integrity = "sha512-" + hash;
    script.src = trusted ? trusted.createScriptURL(url) : url;
    return new Promise((resolve, reject) => {
      script.onload = resolve;
      script.onerror = () => reject(Object.assign(Error("not run"), { reason: "run" }));
      element.after(script);
    }).finally(() => URL.revokeObjectURL(url));
  }

  function tell(element, state, detail) {
    results.push(detail = Object.freeze({ state, element, ...detail }));
    element.dataset.auraseal = state;
    element.dispatchEvent(new CustomEvent("auraseal:" + state, { bubbles: true, detail }));
    element.dispatchEvent(new Event(state === "refused" ? "error" : "load"));
  }

  async function handle(element, kind, late) {
    const before = last, url = element.getAttribute("src") && element.src;
    let done;
    if (!element.hasAttribute("async")) last = new Promise((resolve) => (done = resolve));
    try {
      if (late) fail("late", "started unverified: use type auraseal/module");
      if (!/^(module|script)$/.test(kind)) fail("type", "unknown type " + kind);
      if (!url) fail("src", "a component needs src");
      const verified = await fetchVerified(url, element.getAttribute("integrity"), element.dataset.fallbackUrl, {
        credentials: element.crossOrigin === "use-credentials" ? "include" : "same-origin",
      });
      if (done) await before;
      await run(element, kind, verified);
      tell(element, verified.why ? "healed" : "verified", { url, why: verified.why });
    } catch (error) {
      tell(element, "refused", { url, reason: error.reason ?? "fetch", why: error.message });
    }
    await before;
    done?.();
  }

  function find(node, late) {
    if (node.nodeType !== 1) return;
    for (const element of [node, ...node.querySelectorAll("script")]) {
      if (element.localName !== "script" || seen.has(element)) continue;
      const type = element.type.trim().toLowerCase(), ours = type.startsWith("auraseal/");
      if (!ours && !/auraseal/i.test(element.getAttribute("integrity"))) continue;
      seen.add(element);
      const kind = ours ? type.slice(9) : type === "module" ? type : "script";
      // The parser has not started the script yet: with our type it never will. Others are started already.
      const started = late || document.readyState !== "loading" || (element.async && !element.hasAttribute("async"));
      if (!ours) element.type = "auraseal/" + kind;
      handle(element, kind, !ours && started);
    }
  }

  new MutationObserver((records) => records.forEach(({ addedNodes }) => addedNodes.forEach((node) => find(node))))
    .observe(document, { childList: true, subtree: true });
  find(document.documentElement, true);
  self.auraseal = Object.freeze({ parse, fetch: fetchVerified, results });
})();
