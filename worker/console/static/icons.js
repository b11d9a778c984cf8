// One small drawing per event type, on a 16 by 16 grid.

const SVG = "http://www.w3.org/2000/svg";

const ICONS = {
  view: ["View", "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4z"],
  search: ["Search", "M7 2.500a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.3 10.3 14 14"],
  favourite: ["Favourite", "M8 13.500S2 9.8 2 6.200A3.1 3.1 0 0 1 8 5a3.1 3.1 0 0 1 6 1.200c0 3.6-6 7.3-6 7.300z"],
  cart: ["Add to cart", "M1.5 2.500h2l1.8 8h7.200l1.5-5.500H4.200M6 13.500h.01M11.5 13.500h.01"],
  remove_from_cart: ["Remove from cart", "M1.5 2.500h2l1.8 8h7.200l1-3.500M6 13.500h.01M11.5 13.500h.01M7.5 5h5"],
  purchase: ["Purchase", "M2.5 8.5 6 12l7.5-8"],
  comment: ["Comment", "M2.5 3.500h11v7.500H8l-3 2.500v-2.500H2.500z"],
  other: ["Other", "M8 7.500v1M4 7.500v1M12 7.500v1"],
};

export const EVENT_TYPES = Object.keys(ICONS);

export function label(type) {
  return type in ICONS ? ICONS[type][0] : "Event";
}

// An icon by type; a type that is not known yet is drawn as "other".
export function icon(type) {
  const known = Object.hasOwn(ICONS, type ?? "") ? type : "other";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", `icon ${known}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[known][1]);
  svg.append(path);
  return svg;
}
