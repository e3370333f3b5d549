/** The script of /docs: Swagger UI over the document of this hub. Runs in the browser, behind the deferred bundle. */
const { SwaggerUIBundle } = globalThis as unknown as { SwaggerUIBundle(options: Readonly<Record<string, unknown>>): unknown };

SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#reference',
  deepLinking: true,
  // What people ask for first begins with an a; the order of the document is that of the wiring.
  operationsSorter: 'alpha',
  displayRequestDuration: true,
  // A token stays in the page's memory: what is stored in a browser is found there by others.
  persistAuthorization: false,
  // The validator is a stranger's server.
  validatorUrl: null,
});
