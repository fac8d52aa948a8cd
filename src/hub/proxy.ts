/** `fetch` through the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name, which the one of Node 20 passes over. */
export async function fetchThroughProxy(env: NodeJS.ProcessEnv): Promise<typeof fetch> {
  const given = (name: string): string | undefined => env[name.toLowerCase()] || env[name] || undefined;
  const [httpsProxy, httpProxy, noProxy = ''] = [given('HTTPS_PROXY'), given('HTTP_PROXY'), given('NO_PROXY')];
  if (httpsProxy === undefined && httpProxy === undefined) return fetch;
  const { EnvHttpProxyAgent, fetch: fetchBy } = await import('undici');
  const dispatcher = new EnvHttpProxyAgent({ noProxy, ...(httpProxy && { httpProxy }), ...(httpsProxy && { httpsProxy }) });
  const through = (input: string | URL, { headers, ...init }: RequestInit = {}): unknown =>
    fetchBy(input, { ...init, headers: Object.fromEntries(new Headers(headers)), dispatcher } as Parameters<typeof fetchBy>[1]);
  return through as typeof fetch;
}
