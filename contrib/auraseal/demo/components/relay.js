// Draws peers around a middle.
const peers = Array.from({ length: 9 }, (_, at) => {
  const angle = (at * 2 * Math.PI) / 9;
  return [155 + 104 * Math.cos(angle), 66 + 46 * Math.sin(angle)];
});
const lines = peers.map(([x, y]) => `<line x1="155" y1="66" x2="${x}" y2="${y}" stroke="currentColor" opacity=".45"/>`);
const dots = [[155, 66, 11], ...peers].map(([x, y, r = 6]) => `<circle cx="${x}" cy="${y}" r="${r}" fill="currentColor"/>`);
document.querySelector("#relay .stage").innerHTML = `<svg viewBox="0 0 310 132">${lines.join("")}${dots.join("")}</svg>`;
