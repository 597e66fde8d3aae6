// Draws a pattern of 64 bytes: what a SHA-512 looks like.
const bytes = Array.from({ length: 64 }, (_, at) => (at * at * 37 + at * 101 + 59) % 256);
const cells = bytes.map((byte, at) => {
  const [x, y] = [28 + (at % 16) * 16, 18 + Math.floor(at / 16) * 24];
  return `<rect x="${x}" y="${y}" width="13" height="20" rx="3" fill="currentColor" opacity="${0.15 + byte / 300}"/>`;
});
document.querySelector("#fingerprint .stage").innerHTML = `<svg viewBox="0 0 310 132">${cells.join("")}</svg>`;
