/**
 * Puts the generated document into the form that readers and generators of clients handle best,
 * where zod-openapi can't. It changes no meaning.
 */
type Node = Record<string, unknown>;

/** How often a parameter is repeated before it gets a name of its own. */
const NAMED_FROM = 3;
/** Under these stand values of clients, which are no schemas. */
const VALUES = new Set(["example", "examples"]);
const ANNOTATIONS = new Set(["description", "default", "example", "deprecated"]);

interface Document {
  paths: Record<string, Record<string, { parameters?: Node[] }>>;
  components: { schemas: Record<string, Node>; parameters: Node };
}

export function tidyDocument(generated: object): Document {
  // A copy: what is generated shares objects with the routes and with itself.
  const document: Document = JSON.parse(JSON.stringify(generated));
  visit(document, annotateReference);
  const { paths, components } = document;
  for (const schema of Object.values(components.schemas)) visit(schema, tellDefaults);
  const operations = Object.values(paths).flatMap((item) => Object.values(item));
  for (const { parameters = [] } of operations) parameters.forEach(tellOnce);
  nameRepeatedParameters(operations, components.parameters);
  return document;
}

function visit(node: unknown, change: (node: Node) => void): void {
  if (typeof node !== "object" || node === null) return;
  if (!Array.isArray(node)) change(node as Node);
  for (const [key, child] of Object.entries(node)) {
    if (VALUES.has(key)) continue;
    // Its keys are names of the API, `properties` and `example` among them.
    const children = key === "properties" ? Object.values(child as Node) : [child];
    for (const one of children) visit(one, change);
  }
}

/** `allOf` of a reference and a description: 3.1 allows the description beside the reference. */
function annotateReference(node: Node): void {
  const [reference, words, ...others] = (node.allOf ?? []) as Node[];
  if (typeof reference?.$ref !== "string" || !words || others.length > 0) return;
  if (!Object.keys(words).every((key) => ANNOTATIONS.has(key))) return;
  delete node.allOf;
  Object.assign(node, reference, words);
}

/**
 * Generators take a property with a default for one that is always there. That is true of answers,
 * not of requests, so the default is told in words. Parameters keep theirs.
 */
function tellDefaults({ properties }: Node): void {
  for (const property of Object.values((properties ?? {}) as Record<string, Node>)) {
    if (!("default" in property)) continue;
    const words = `Default: ${JSON.stringify(property.default)}`;
    property.description = property.description === undefined ? words : `${property.description}. ${words}`;
    delete property.default;
  }
}

/** The description of a query schema is generated at the parameter and in its schema. */
function tellOnce({ description, schema }: Node): void {
  const told = schema as Node | undefined;
  if (told && description !== undefined && told.description === description) delete told.description;
}

/** Parameters that many operations share, such as `limit`, become components. */
function nameRepeatedParameters(operations: { parameters?: Node[] }[], components: Node): void {
  const counts = new Map<string, number>();
  for (const { parameters = [] } of operations)
    for (const parameter of parameters) {
      const text = JSON.stringify(parameter);
      if (!("$ref" in parameter)) counts.set(text, (counts.get(text) ?? 0) + 1);
    }
  const names = new Map<string, string>();
  for (const [text, count] of [...counts].sort(([, a], [, b]) => b - a)) {
    const parameter = JSON.parse(text) as { name: string };
    const name = parameter.name.replace(/^./, (letter) => letter.toUpperCase());
    if (count < NAMED_FROM || name in components) continue;
    components[name] = parameter;
    names.set(text, name);
  }
  for (const operation of operations)
    operation.parameters = operation.parameters?.map((parameter) => {
      const name = names.get(JSON.stringify(parameter));
      return name === undefined ? parameter : { $ref: `#/components/parameters/${name}` };
    });
}
