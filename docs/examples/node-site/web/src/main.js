// What the page says.
import { tide } from "./tide.js";

document.getElementById("now").textContent = tide(new Date());
