/** For which languages suggestions are on: `fim.enable`, language identifiers to true or false. */

export type Enable = Readonly<Record<string, boolean>>;

export const ALL = "*";

export function isEnabled(enable: Enable, language: string): boolean {
  return enable[language] ?? enable[ALL] ?? true;
}

/** The setting after switching one language, or all that are not named. */
export function toggled(enable: Enable, language: string): Enable {
  return { ...enable, [language]: !isEnabled(enable, language) };
}
