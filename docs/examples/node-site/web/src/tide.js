// High water is about every 12.42 hours.
export const tide = (now) => {
  const hours = (now / 3.6e6) % 12.42;
  return hours < 6.21 ? "rising" : "falling";
};
